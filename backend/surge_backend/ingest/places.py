"""Where accepted reports stand: for each its batch and position, kept by device and boot, many to a row.

Place in the flow: ``histories`` adds the places of a settled batch to the ``recent`` of the device's boot,
and moves them to ``accepted_runs`` when there are RECENT_MAX; `find` answers for names that are accepted,
which is asked for replays, clones and checks only.

Does not: say whether a name is accepted; the history of its boot does, exactly.

Rules it keeps: every accepted report is in exactly one `recent` or run, for ever.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select

from surge_backend.db.boots import BOOTS
from surge_backend.db.bulk import fetch_one, select_by_keys
from surge_backend.db.schema import accepted_runs
from surge_backend.verify.history import Accepted
from surge_backend.verify.judging import ReportName
from surge_backend.verify.reading import DIGEST_LEN

RECENT_MAX: Final = (
    16  # places in a device's row; with more it is written too dearly, with fewer runs are short
)
RUN_MAX: Final = 1_024  # places in a run: 16 KiB
RUN_SPAN_MAX: Final = 4_096  # numbers from a run's first to its last: bounds where a number can stand
ROWS_AT_ONCE: Final = 500
RUN_COLUMNS: Final = ("device_id", "boot", "seq_min", "seq_max", "log_index", "places")

_PLACE: Final = struct.Struct("<IQHH")  # seq, log index << POSITION_BITS | position, samples, bytes
_POSITION_BITS: Final = 14  # a batch holds fewer reports (surge_wire.limits.BATCH_REPORTS_MAX)
_POSITION_MASK: Final = (1 << _POSITION_BITS) - 1
RECENT_LEN_MAX: Final = RECENT_MAX * _PLACE.size

_NEWEST: Final = "SELECT device_id, boot_max, recent FROM device_totals WHERE device_id IN ({keys})"
_EARLIER: Final = "SELECT device_id, boot, recent FROM device_boots WHERE (device_id, boot) IN ({keys})"
_RUN: Final = (
    "SELECT seq_min, places FROM accepted_runs WHERE device_id = {} AND boot = {} AND seq_min <= {}"
    " AND seq_min > {} AND seq_max >= {} ORDER BY seq_min DESC LIMIT 1"
)
_DIGESTS: Final = "SELECT digests FROM batch_digests WHERE log_index = {}"


class Place(NamedTuple):
    """An accepted report: its number, where it stands, and what was counted of it."""

    seq: int
    log_index: int
    position: int
    samples: int
    bytes: int


def encode_places(log_index: int, accepted: Sequence[Accepted]) -> bytes:
    """Places of one boot's reports in the batch at ``log_index``."""
    base = log_index << _POSITION_BITS
    pack = _PLACE.pack
    if len(accepted) == 1:
        ((seq, position, samples, length),) = accepted
        return pack(seq, base | position, samples, length)
    return b"".join(
        [pack(seq, base | position, samples, length) for seq, position, samples, length in accepted]
    )


def decode_places(data: bytes) -> Iterator[Place]:
    """What `encode_places` was given, of however many batches."""
    for seq, place, samples, length in _PLACE.iter_unpack(data):
        yield Place(seq, place >> _POSITION_BITS, place & _POSITION_MASK, samples, length)


def make_runs(device_id: str, boot: int, recent: bytes) -> list[tuple[Any, ...]]:
    """Rows of ``accepted_runs`` for the places in ``recent``, in RUN_COLUMNS: rising, each of at most RUN_MAX
    places whose numbers span at most RUN_SPAN_MAX."""
    rows = []
    part: list[tuple[int, int, int, int]] = []
    places = list(_PLACE.iter_unpack(recent))
    first, last = places[0][0], places[-1][0]
    if last - first == len(places) - 1 < RUN_MAX and places == sorted(places):  # as nearly always
        return [(device_id, boot, first, last, places[-1][1] >> _POSITION_BITS, recent)]
    for place in sorted(places):
        if part and (len(part) == RUN_MAX or place[0] - part[0][0] >= RUN_SPAN_MAX):
            rows.append(_run(device_id, boot, part))
            part = []
        part.append(place)
    rows.append(_run(device_id, boot, part))
    return rows


def _run(device_id: str, boot: int, part: list[tuple[int, int, int, int]]) -> tuple[Any, ...]:
    log_index = max(place[1] for place in part) >> _POSITION_BITS
    return device_id, boot, part[0][0], part[-1][0], log_index, b"".join([_PLACE.pack(*p) for p in part])


def find(connection: Connection, names: Iterable[ReportName]) -> dict[ReportName, Place]:
    """The places of those of ``names`` that are accepted."""
    wanted: dict[tuple[str, int], set[int]] = defaultdict(set)
    for device_id, boot, seq in names:
        wanted[device_id, boot].add(seq)
    found: dict[ReportName, Place] = {}
    if not wanted:
        return found
    newest = select_by_keys(connection, _NEWEST, {(device_id,) for device_id, _ in wanted})
    earlier = select_by_keys(connection, _EARLIER, list(wanted))
    for device_id, boot, recent in [*newest, *earlier]:
        numbers = wanted.get((device_id, boot))
        if numbers:
            _take(recent, device_id, boot, numbers, found)
    for (device_id, boot), numbers in wanted.items():
        for seq in sorted(numbers, reverse=True):
            if (device_id, boot, seq) not in found:  # it may stand in a run that was read for another
                _find_in_runs(connection, device_id, boot, seq, numbers, found)
    return found


def _find_in_runs(
    connection: Connection,
    device_id: str,
    boot: int,
    seq: int,
    numbers: set[int],
    found: dict[ReportName, Place],
) -> None:
    """Look for ``seq`` in the runs that span it, nearly always one, and for all of ``numbers`` on the way."""
    first = seq
    while run := fetch_one(connection, _RUN, device_id, boot, first, seq - RUN_SPAN_MAX, seq):
        _take(run[1], device_id, boot, numbers, found)
        if (device_id, boot, seq) in found:
            return
        first = run[0] - 1


def _take(
    places: bytes, device_id: str, boot: int, numbers: set[int], found: dict[ReportName, Place]
) -> None:
    for place in decode_places(places):
        if place.seq in numbers:
            found[device_id, boot, place.seq] = place


def places_from(
    connection: Connection, device_id: str, boot: int, recent: bytes, seq: int
) -> Iterator[Place]:
    """Every place of a boot whose number is at least ``seq``; ``recent`` is the boot's."""
    stored = accepted_runs.c
    runs = connection.execute(
        select(stored.places)
        .where(stored.device_id == device_id, stored.boot == boot, stored.seq_min > seq - RUN_SPAN_MAX)
        .order_by(stored.seq_min)
    ).scalars()
    for places in (*runs, recent):
        for place in decode_places(places):
            if place.seq >= seq:
                yield place


def accepted_reports(connection: Connection) -> Iterator[tuple[str, int, Place]]:
    """Every accepted report: device, boot, place; rising by device, boot and number."""
    rows = connection.execute(
        select(BOOTS.c.device_id, BOOTS.c.boot, BOOTS.c.recent)
        .order_by(BOOTS.c.device_id, BOOTS.c.boot)
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    for device_id, boot, recent in rows:
        for place in sorted(places_from(connection, device_id, boot, recent, 0)):
            yield device_id, boot, place


def batch_digests_at(connection: Connection, log_index: int) -> bytes:
    """The digests of the batch at ``log_index``, for `digest_at`."""
    return bytes(fetch_one(connection, _DIGESTS, log_index)[0])


def digest_at(digests: bytes, position: int) -> bytes:
    """One of them."""
    return digests[position * DIGEST_LEN : (position + 1) * DIGEST_LEN]


def digests_of(connection: Connection, places: Iterable[Place]) -> dict[tuple[int, int], bytes]:
    """The digests of the reports at ``places``, by log index and position."""
    by_batch: dict[int, set[int]] = defaultdict(set)
    for place in places:
        by_batch[place.log_index].add(place.position)
    found = {}
    for log_index, positions in by_batch.items():
        digests = batch_digests_at(connection, log_index)
        for position in positions:
            found[log_index, position] = digest_at(digests, position)
    return found
