"""Gaps in a device's counters: what it sealed and the backend doesn't have, and what explains it.

Place in the flow: the API shows it to a device's owner; a gateway that withholds reports shows here (threat
9).

Does not: judge. A gap may be a report on its way, one that the outbox thinned out, one that a gateway
summarised, or one withheld. A device's own counters are shown beside what was counted and change nothing.

Rules kept: the caller bounds how many boots are looked at. Of each, the newest SEQ_SCANNED_MAX numbers are,
and RANGES_MAX ranges listed; ``missing_reports`` is exact all the same.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, select

from surge_backend.db.boots import BOOTS
from surge_backend.db.schema import summaries
from surge_backend.ingest.places import places_from
from surge_backend.verify.gaps import decode_gaps
from surge_wire.cbor import decode

BOOTS_MAX: Final = 16  # of one answer; the API takes no more
RANGES_MAX: Final = 100
SEQ_SCANNED_MAX: Final = 200_000  # twice what can still be delivered late (verify.limits.REORDER_WINDOW)
SUMMARIES_READ_MAX: Final = 1_000  # of one boot, the newest

State = Literal["missing", "summarised"]
MISSING: Final = "missing"
EXPLAINED: Final = "summarised"  # by a gateway, unverified


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers ``first`` to ``last`` that the backend doesn't have; ``state`` is MISSING or EXPLAINED."""

    first: int
    last: int
    state: State


@dataclass(frozen=True, slots=True)
class Claim:
    """The device's last word about its boot, in the report ``seq``, and what was counted of the reports
    before that one: None where SEQ_SCANNED_MAX or more have come since."""

    seq: int
    reports: int
    samples: int
    bytes: int
    dropped: int
    counted_reports: int | None
    counted_samples: int | None
    counted_bytes: int | None


@dataclass(frozen=True, slots=True)
class BootGaps:
    """One boot. ``declared_end`` is the number of reports that the next boot says this one sealed, None if
    not known. ``more`` tells that ``ranges`` doesn't list all."""

    boot: int
    seq_max: int
    declared_end: int | None
    received_reports: int
    first_seen_ms: int
    last_seen_ms: int
    missing_reports: int
    ranges: tuple[Range, ...]
    more: bool
    claim: Claim | None

    @property
    def summarised_reports(self) -> int:
        """How many numbers of ``ranges`` a gateway explains."""
        return _count(item for item in self.ranges if item.state == EXPLAINED)


def device_gaps(
    connection: Connection, device_id: str, limit: int = BOOTS_MAX, before_boot: int | None = None
) -> list[BootGaps]:
    """The newest boots of a device that are before ``before_boot``, the newest first; empty for a device that
    sent nothing."""
    own = BOOTS.c.device_id == device_id
    query = select(BOOTS).where(own)
    if before_boot is not None:
        query = query.where(BOOTS.c.boot < before_boot)
    rows = connection.execute(query.order_by(BOOTS.c.boot.desc()).limit(limit)).all()
    declared = select(BOOTS.c.boot - 1, BOOTS.c.previous_end).where(
        own, BOOTS.c.boot.in_([row.boot + 1 for row in rows])
    )
    ends: dict[int, int | None] = {row[0]: row[1] for row in connection.execute(declared)}
    return [_boot_gaps(connection, row, ends.get(row.boot)) for row in rows]


def _boot_gaps(connection: Connection, row: Row[Any], declared_end: int | None) -> BootGaps:
    known_end = max(row.seq_max + 1, declared_end or 0)
    missing = known_end - row.reports
    ranges: tuple[Range, ...] = ()
    if missing:
        gaps = _missing(row, known_end)
        summarised = _summarised(connection, row.device_id, row.boot)
        ranges = tuple(islice(_explain(gaps, summarised), RANGES_MAX))
    return BootGaps(
        row.boot,
        row.seq_max,
        declared_end,
        row.reports,
        row.first_seen_ms,
        row.last_seen_ms,
        missing,
        ranges,
        _count(ranges) < missing,
        _claim(connection, row),
    )


def _count(ranges: Iterable[Range]) -> int:
    return sum(item.last - item.first + 1 for item in ranges)


def _missing(row: Row[Any], known_end: int) -> list[tuple[int, int]]:
    """Ranges that aren't there, rising, of the newest SEQ_SCANNED_MAX numbers."""
    start = max(0, row.seq_max + 1 - SEQ_SCANNED_MAX)
    gaps = [(max(first, start), last) for first, last in decode_gaps(row.gaps) if last >= start]
    if known_end > row.seq_max + 1:
        gaps.append((row.seq_max + 1, known_end - 1))
    return gaps


def _summarised(connection: Connection, device_id: str, boot: int) -> list[tuple[int, int]]:
    """What gateways say that they summarised: rising, none overlapping another."""
    rows = connection.execute(
        select(summaries.c.ranges)
        .where(summaries.c.device_id == device_id, summaries.c.boot == boot)
        .order_by(summaries.c.log_index.desc(), summaries.c.position.desc())
        .limit(SUMMARIES_READ_MAX)
    ).scalars()
    merged: list[tuple[int, int]] = []
    for first, last in sorted((first, last) for ranges in rows for first, last in decode(ranges)):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _explain(gaps: Sequence[tuple[int, int]], summarised: Sequence[tuple[int, int]]) -> Iterator[Range]:
    """Cut each gap where a gateway's summary begins or ends; one pass over both."""
    place = 0
    for first, last in gaps:
        at = first
        while at <= last:
            while place < len(summarised) and summarised[place][1] < at:
                place += 1
            state: State
            from_seq, to_seq = summarised[place] if place < len(summarised) else (last + 1, last + 1)
            if from_seq > at:
                end, state = min(from_seq - 1, last), MISSING
            else:
                end, state = min(to_seq, last), EXPLAINED
            yield Range(at, end, state)
            at = end + 1


def _claim(connection: Connection, boot: Row[Any]) -> Claim | None:
    if boot.claim_seq is None:
        return None
    counted: tuple[int | None, int | None, int | None] = (None, None, None)
    if boot.seq_max - boot.claim_seq < SEQ_SCANNED_MAX:
        reports, samples, length = boot.reports, boot.samples, boot.bytes
        for place in places_from(connection, boot.device_id, boot.boot, boot.recent, boot.claim_seq):
            reports, samples, length = reports - 1, samples - place.samples, length - place.bytes
        counted = (reports, samples, length)
    said_reports, said_samples, said_bytes, dropped, _, _ = json.loads(boot.claim)
    return Claim(boot.claim_seq, said_reports, said_samples, said_bytes, dropped, *counted)
