"""The rows that a settled batch leaves: rejections, summaries, the batch itself, the digests of its reports.

Place in the flow: called by ``settling`` within its transaction, after all is decided.

Does not: decide, or count: what is accepted stands in the devices' own rows (``histories``).

What happens to summarised reports: a gateway may say that it put reports into windows instead of forwarding
them. Nothing about that can be verified, so it is stored as a claim that explains a gap in the counters
(verdict ``summarised`` where gaps are shown), it is not paid, and it never stands in the way of the report
itself: a verbatim copy that arrives later, from whichever gateway, is judged like any other and paid once.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, update

from surge_backend.db.bulk import execute, insert_rows
from surge_backend.db.schema import batch_digests, batches, commands, rejections, summaries
from surge_backend.ingest.submission import Submission
from surge_backend.verify.judging import Judgement
from surge_backend.verify.reading import DIGEST_LEN, ReadReport
from surge_wire.batch import Summarised
from surge_wire.cbor import encode
from surge_wire.verdicts import ACCEPTED

_NO_DIGEST: Final = bytes(DIGEST_LEN)
_DIGESTS: Final = ("log_index", "digests")
_REJECTION: Final = ("log_index", "position", "device_id", "boot", "seq", "code", "detail", "received_ms")
_BATCH: Final = (
    "log_index",
    "hash",
    "gateway_id",
    "seq",
    "received_ms",
    "envelope",
    "settlement",
    "answer",
    "window_devices",
    "report_count",
    "accepted_count",
    "sample_count",
)
_ADVANCE: Final = "UPDATE gateways SET next_seq = {}, chain_hash = {} WHERE id = {}"
_SUMMARY: Final = ("log_index", "position", "device_id", "boot", "ranges", "reports")


def store_digests(connection: Connection, read: Sequence[ReadReport], log_index: int) -> None:
    """Keep the digest of every report that could be read, at its position; zeros for the others."""
    digests = b"".join([item.digest or _NO_DIGEST for item in read])
    insert_rows(connection, batch_digests, _DIGESTS, [(log_index, digests)])


def store_rejections(
    connection: Connection, read: Sequence[ReadReport], judgement: Judgement, log_index: int, now_ms: int
) -> None:
    """Keep every report that was not accepted, with its reason."""
    rows = []
    for position, (code, detail) in enumerate(judgement.verdicts):
        if code != ACCEPTED:
            item = read[position]
            boot, seq = (item.boot, item.seq) if item.boot >= 0 else (None, None)
            rows.append((log_index, position, item.device_id, boot, seq, code, detail, now_ms))
    insert_rows(connection, rejections, _REJECTION, rows)


def store_summaries(
    connection: Connection, claimed: Iterable[Summarised], allowed: Collection[str], log_index: int
) -> None:
    """Keep what the gateway says it summarised, of the devices that it may speak for."""
    rows = []
    for position, item in enumerate(claimed):
        if item.device_id in allowed and item.ranges:
            count = sum(last - first + 1 for first, last in item.ranges)
            rows.append((log_index, position, item.device_id, item.boot, encode(item.ranges), count))
    insert_rows(connection, summaries, _SUMMARY, rows)


def store_executed(connection: Connection, counters: Iterable[tuple[str, int]], now_ms: int) -> None:
    """Mark the commands that devices say they executed."""
    for device_id, counter in counters:
        connection.execute(
            update(commands)
            .where(
                commands.c.device_id == device_id,
                commands.c.counter == counter,
                commands.c.executed_ms.is_(None),
            )
            .values(executed_ms=now_ms)
        )


def store_batch(
    connection: Connection,
    submission: Submission,
    judgement: Judgement,
    window_devices: Collection[str],
    settlement: bytes,
    answer: bytes,
    log_index: int,
    now_ms: int,
) -> None:
    """Keep the batch as it came, its answer, and move the gateway's chain on."""
    insert_rows(
        connection,
        batches,
        _BATCH,
        [
            (
                log_index,
                submission.hash,
                submission.gateway_id,
                submission.batch.seq,
                now_ms,
                submission.envelope,
                settlement,
                answer,
                encode(sorted(window_devices)) if window_devices else None,
                len(judgement.verdicts),
                len(judgement.accepted),
                sum(read.samples for read in judgement.accepted),
            )
        ],
    )
    execute(connection, _ADVANCE, submission.batch.seq + 1, submission.payload_hash, submission.gateway_id)
