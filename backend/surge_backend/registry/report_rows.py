"""What became of a device's reports: rejections with their reasons, and gaps in its counters.

Place in the flow: reads what ingest stored; the API shows it to the device's owner and to auditors. Every
function runs in the caller's connection and writes nothing.

Rules kept: a gap is what the counters prove is missing, not a guess; a device's own counters are shown beside
what was counted and change nothing (threat 9); every list is bounded and says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, RowMapping, and_, func, or_, select

from surge_backend.db.schema import device_boots, rejections, reports, summaries, usage_claims

REJECTIONS_LISTED_MAX = 1_000
BOOTS_LISTED_MAX = 16  # of one answer; older ones with `before_boot`
MISSING_RANGES_MAX = 100  # of one boot; the count of what is missing is exact all the same


@dataclass(frozen=True)
class Claim:
    """What a device said of its boot up to (not including) report `seq`, beside what was accepted of it."""

    seq: int
    claimed_reports: int
    claimed_samples: int
    claimed_bytes: int
    dropped: int
    counted_reports: int
    counted_samples: int
    counted_bytes: int


@dataclass(frozen=True)
class BootGaps:
    """One boot's counters. `missing` are inclusive ranges of seq, `missing_count` covers all of them."""

    boot: int
    seq_max: int
    received: int
    first_seen_ms: int
    last_seen_ms: int
    summarised: int
    missing_count: int
    missing: tuple[tuple[int, int], ...]
    missing_complete: bool
    claim: Claim | None


def accepted_count(connection: Connection, device_id: str) -> int:
    """How many of the device's reports were accepted."""
    total = select(func.sum(device_boots.c.reports)).where(device_boots.c.device_id == device_id)
    return int(connection.execute(total).scalar() or 0)


def rejected_counts(connection: Connection, device_id: str) -> dict[int, int]:
    """How many were rejected, by verdict code."""
    rows = connection.execute(
        select(rejections.c.code, func.count())
        .where(rejections.c.device_id == device_id)
        .group_by(rejections.c.code)
    )
    return {row[0]: row[1] for row in rows}


def list_rejections(
    connection: Connection, device_id: str, before: tuple[int, int] | None, limit: int
) -> Sequence[RowMapping]:
    """Rejections, newest first, from before `(log_index, position)` on."""
    query = select(rejections).where(rejections.c.device_id == device_id)
    if before is not None:
        log_index, position = before
        query = query.where(
            or_(
                rejections.c.log_index < log_index,
                and_(rejections.c.log_index == log_index, rejections.c.position < position),
            )
        )
    query = query.order_by(rejections.c.log_index.desc(), rejections.c.position.desc()).limit(limit)
    return connection.execute(query).mappings().all()


def list_gaps(connection: Connection, device_id: str, before_boot: int | None, limit: int) -> list[BootGaps]:
    """Boots, newest first."""
    query = select(device_boots).where(device_boots.c.device_id == device_id)
    if before_boot is not None:
        query = query.where(device_boots.c.boot < before_boot)
    rows = connection.execute(query.order_by(device_boots.c.boot.desc()).limit(limit)).all()
    return [_boot_gaps(connection, row) for row in rows]


def _boot_gaps(connection: Connection, row: "Row[tuple[object, ...]]") -> BootGaps:
    boot = row._mapping
    missing = _missing(connection, boot["device_id"], boot["boot"])
    summarised = connection.execute(
        select(func.sum(summaries.c.reports)).where(
            summaries.c.device_id == boot["device_id"], summaries.c.boot == boot["boot"]
        )
    ).scalar()
    return BootGaps(
        boot=boot["boot"],
        seq_max=boot["seq_max"],
        received=boot["reports"],
        first_seen_ms=boot["first_seen_ms"],
        last_seen_ms=boot["last_seen_ms"],
        summarised=int(summarised or 0),
        missing_count=boot["seq_max"] + 1 - boot["reports"],
        missing=tuple(missing[:MISSING_RANGES_MAX]),
        missing_complete=len(missing) <= MISSING_RANGES_MAX,
        claim=_claim(connection, boot["device_id"], boot["boot"]),
    )


def _missing(connection: Connection, device_id: str, boot: int) -> list[tuple[int, int]]:
    """Ranges of seq without an accepted report, below the boot's newest; one more than is shown."""
    before = func.lag(reports.c.seq, 1, -1).over(order_by=reports.c.seq).label("before")
    steps = (
        select(reports.c.seq, before)
        .where(reports.c.device_id == device_id, reports.c.boot == boot)
        .subquery()
    )
    found = connection.execute(
        select(steps.c.before + 1, steps.c.seq - 1)
        .where(steps.c.seq > steps.c.before + 1)
        .order_by(steps.c.seq)
        .limit(MISSING_RANGES_MAX + 1)
    )
    return [(first, last) for first, last in found]


def _claim(connection: Connection, device_id: str, boot: int) -> Claim | None:
    claim = connection.execute(
        select(usage_claims)
        .where(usage_claims.c.device_id == device_id, usage_claims.c.boot == boot)
        .order_by(usage_claims.c.seq.desc())
        .limit(1)
    ).one_or_none()
    if claim is None:
        return None
    counted = connection.execute(
        select(func.count(), func.sum(reports.c.samples), func.sum(reports.c.bytes)).where(
            reports.c.device_id == device_id, reports.c.boot == boot, reports.c.seq < claim.seq
        )
    ).one()
    return Claim(
        seq=claim.seq,
        claimed_reports=claim.reports,
        claimed_samples=claim.samples,
        claimed_bytes=claim.bytes,
        dropped=claim.dropped,
        counted_reports=counted[0],
        counted_samples=int(counted[1] or 0),
        counted_bytes=int(counted[2] or 0),
    )
