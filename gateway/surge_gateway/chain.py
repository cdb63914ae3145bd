"""The gateway's place in its own batch chain, and whether the backend agrees with it.

Place in the flow: pure. `store` keeps it on disk, `uplink` asks the backend at every start. Rules kept: a
seq gets one content for ever; where our knowledge and the backend's don't fit together nothing is sealed or
sent, and the error says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from surge_gateway.errors import ChainError
from surge_gateway.spool_record import START, Position
from surge_wire.batch import FIRST_PREVIOUS

FROM_BACKUP = (
    "if this state_dir was restored from a backup, or another machine runs under the same identity: "
    "enrol this one anew (`surge gateway init` with a fresh state_dir) and move the old spool folder into it"
)
BACKEND_BEHIND = "restore the backend's newest database, or enrol this gateway anew with a fresh state_dir"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What the last verified receipt covered.

    `next_seq` None: nothing was ever confirmed, or it is not known.
    """

    next_seq: int | None = None
    previous: bytes = FIRST_PREVIOUS
    released: Position = START
    certain: bool = True  # False after damage to our own files: then the backend's word is taken


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A batch whose content is fixed: on disk before it is sent, deleted on a verified receipt."""

    seq: int
    previous: bytes
    payload_hash: bytes
    report_count: int  # reports carried verbatim: what the settlement counts
    taken_count: int  # reports of the spool that it stands for
    end: Position
    envelope: bytes


def reconcile(
    confirmed: Confirmed, sealed: Sequence[SealedBatch], backend_next_seq: int, backend_previous: bytes
) -> tuple[int, bytes]:
    """`(seq, previous)` that the next batch to be sealed gets. Raises ChainError.

    The backend may be anywhere from our last confirmed batch to our last sealed one, for answers get lost.
    After damage (not `confirmed.certain`) its word is taken, and `sealed` holds only what `continues` it.
    """
    if not confirmed.certain:
        return (
            (sealed[-1].seq + 1, sealed[-1].payload_hash) if sealed else (backend_next_seq, backend_previous)
        )
    if confirmed.next_seq is None and not sealed:
        if backend_previous != FIRST_PREVIOUS:
            raise ChainError(
                f"the backend has batches up to {backend_next_seq - 1} of this gateway, the state_dir none",
                FROM_BACKUP,
            )
        return backend_next_seq, FIRST_PREVIOUS
    first_seq = confirmed.next_seq if confirmed.next_seq is not None else sealed[0].seq
    hashes = {first_seq: confirmed.previous} | {batch.seq + 1: batch.payload_hash for batch in sealed}
    newest = max(hashes)
    if backend_next_seq > newest:
        raise ChainError(
            f"the backend expects batch {backend_next_seq}, this state_dir would make {newest}", FROM_BACKUP
        )
    if backend_next_seq < first_seq:
        raise ChainError(
            f"the backend expects batch {backend_next_seq} but gave receipts for all before {first_seq}",
            BACKEND_BEHIND,
        )
    if hashes[backend_next_seq] != backend_previous:
        raise ChainError(f"the backend has another batch {backend_next_seq - 1} than ours", FROM_BACKUP)
    return newest, hashes[newest]


def continues(sealed: Sequence[SealedBatch], backend_next_seq: int, backend_previous: bytes) -> bool:
    """Whether the backend can take `sealed`, or has taken all or some of it: else none of it ever can be
    confirmed.

    After damage to our own files it may not: a batch that was set aside can have been on its way still, and
    have reached the backend after we were told where it stands. Then its word is asked again, what was sealed
    since is cut anew from the spool, where all of it still is, and counts once: the backend knows duplicates.
    """
    hashes = {batch.seq: batch.previous for batch in sealed[:1]}
    hashes |= {batch.seq + 1: batch.payload_hash for batch in sealed}
    return hashes.get(backend_next_seq) == backend_previous
