"""Gaps in a device's counters: what it sealed and the backend doesn't have, and what explains it.

Place in the flow: the API shows it to a device's owner; a gateway that withholds reports shows here (threat
9).

Does not: judge. A gap may be a report on its way, one that the outbox thinned out, one that a gateway
summarised, or one withheld.

Rules it keeps: only the newest BOOTS_MAX boots and the newest SEQ_SCANNED_MAX numbers of each are looked at,
and RANGES_MAX ranges listed; ``missing_reports`` is exact all the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from surge_backend.db.schema import device_boots, reports, summaries, usage_claims
from surge_wire.cbor import decode

BOOTS_MAX: Final = 16
RANGES_MAX: Final = 100
SEQ_SCANNED_MAX: Final = 200_000  # twice what can still be delivered late (verify.limits.REORDER_WINDOW)
SUMMARIES_READ_MAX: Final = 1_000  # of one boot, the newest

MISSING: Final = "missing"
EXPLAINED: Final = "summarised"  # by a gateway, unverified


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers ``first`` to ``last`` that the backend doesn't have; ``state`` is MISSING or EXPLAINED."""

    first: int
    last: int
    state: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The device's last word about its boot, in the report ``seq``, and what was counted of the reports
    before that one."""

    seq: int
    reports: int
    samples: int
    bytes: int
    dropped: int
    counted_reports: int
    counted_samples: int
    counted_bytes: int


@dataclass(frozen=True, slots=True)
class BootGaps:
    """One boot. ``declared_end`` is the number of reports that the next boot says this one sealed, None if
    not known. ``more`` tells that ``ranges`` doesn't list all."""

    boot: int
    seq_max: int
    declared_end: int | None
    received_reports: int
    missing_reports: int
    ranges: tuple[Range, ...]
    more: bool
    claim: Claim | None


def device_gaps(connection: Connection, device_id: str) -> list[BootGaps]:
    """The newest boots of a device, the newest first; empty for a device that sent nothing."""
    rows = connection.execute(
        select(device_boots)
        .where(device_boots.c.device_id == device_id)
        .order_by(device_boots.c.boot.desc())
        .limit(BOOTS_MAX)
    ).all()
    ends = {row.boot - 1: row.previous_end for row in rows}
    found = []
    for row in rows:
        end = ends.get(row.boot)
        known_end = max(row.seq_max + 1, end or 0)
        missing = known_end - row.reports
        gaps: list[tuple[int, int]] = []
        if missing:
            gaps = _missing(connection, device_id, row.boot, row.seq_max, known_end)
        ranges = list(
            _explain(gaps[:RANGES_MAX], _summarised(connection, device_id, row.boot) if gaps else [])
        )
        found.append(
            BootGaps(
                row.boot,
                row.seq_max,
                end,
                row.reports,
                missing,
                tuple(ranges[:RANGES_MAX]),
                sum(item.last - item.first + 1 for item in ranges[:RANGES_MAX]) < missing,
                _claim(connection, device_id, row.boot, (row.reports, row.samples, row.bytes)),
            )
        )
    return found


def _missing(
    connection: Connection, device_id: str, boot: int, seq_max: int, known_end: int
) -> list[tuple[int, int]]:
    """Ranges that aren't there, rising; the scan begins SEQ_SCANNED_MAX before the newest."""
    start = max(0, seq_max - SEQ_SCANNED_MAX)
    own = (reports.c.device_id == device_id) & (reports.c.boot == boot) & (reports.c.seq >= start)
    following = func.lead(reports.c.seq).over(order_by=reports.c.seq).label("following")
    steps = select(reports.c.seq.label("seq"), following).where(own).subquery()
    rows = connection.execute(
        select(steps.c.seq, steps.c.following)
        .where(steps.c.following > steps.c.seq + 1)
        .order_by(steps.c.seq)
        .limit(RANGES_MAX + 1)
    ).all()
    first = connection.execute(select(func.min(reports.c.seq)).where(own)).scalar()
    gaps = [] if first is None or first == start else [(start, first - 1)]
    gaps += [(row.seq + 1, row.following - 1) for row in rows]
    if known_end > seq_max + 1:
        gaps.append((seq_max + 1, known_end - 1))
    return gaps


def _summarised(connection: Connection, device_id: str, boot: int) -> list[tuple[int, int]]:
    rows = connection.execute(
        select(summaries.c.ranges)
        .where(summaries.c.device_id == device_id, summaries.c.boot == boot)
        .order_by(summaries.c.log_index.desc())
        .limit(SUMMARIES_READ_MAX)
    ).scalars()
    return sorted((first, last) for ranges in rows for first, last in decode(ranges))


def _explain(gaps: Iterable[tuple[int, int]], summarised: list[tuple[int, int]]) -> Iterable[Range]:
    """Cut each gap where a gateway's summary begins or ends."""
    for first, last in gaps:
        at = first
        for from_seq, to_seq in summarised:
            if to_seq < at or from_seq > last:
                continue
            if from_seq > at:
                yield Range(at, from_seq - 1, MISSING)
            end = min(to_seq, last)
            yield Range(max(at, from_seq), end, EXPLAINED)
            at = end + 1
        if at <= last:
            yield Range(at, last, MISSING)


def _claim(connection: Connection, device_id: str, boot: int, counted: tuple[int, int, int]) -> Claim | None:
    own = (usage_claims.c.device_id == device_id) & (usage_claims.c.boot == boot)
    claim = connection.execute(
        select(usage_claims).where(own).order_by(usage_claims.c.seq.desc()).limit(1)
    ).first()
    if claim is None:
        return None
    since = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(reports.c.samples), 0),
            func.coalesce(func.sum(reports.c.bytes), 0),
        ).where(reports.c.device_id == device_id, reports.c.boot == boot, reports.c.seq >= claim.seq)
    ).one()
    return Claim(
        claim.seq,
        claim.reports,
        claim.samples,
        claim.bytes,
        claim.dropped,
        counted[0] - since[0],
        counted[1] - since[1],
        counted[2] - since[2],
    )
