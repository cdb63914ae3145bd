"""What became of a device's reports: how much was accepted, and every rejection with its reason.

Place in the flow: the API shows it to the device's owner and to auditors.

Rules kept: rejections come in pages, newest first; they are counted by verdict over the newest
REJECTIONS_COUNTED_MAX, because anybody who knows a device's id can have reports rejected under it.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from surge_backend.db.schema import device_totals, rejections
from surge_wire.verdicts import BAD_MAC, MALFORMED, NAMES, UNKNOWN_DEVICE

REJECTIONS_COUNTED_MAX: Final = 100_000  # of one device, the newest; older ones are listed and not counted

# Without a MAC that holds, the device's id is what somebody wrote on the envelope.
_UNPROVEN: Final = frozenset((MALFORMED, UNKNOWN_DEVICE, BAD_MAC))

Place = tuple[int, int]  # log index, position in that batch


@dataclass(frozen=True, slots=True)
class Rejection:
    """A report that was not accepted. ``proven`` is False where its bytes only claim to be of the device."""

    place: Place
    boot: int | None
    seq: int | None
    verdict: str
    detail: str
    received_ms: int
    proven: bool


@dataclass(frozen=True, slots=True)
class Verdicts:
    """``accepted_*`` are the device's totals, ``rejected`` counts by verdict (all of them if
    ``rejected_complete``); ``next_before`` is None on the last page of ``rejections``."""

    accepted_reports: int
    accepted_samples: int
    accepted_bytes: int
    rejected: dict[str, int]
    rejected_complete: bool
    rejections: tuple[Rejection, ...]
    next_before: Place | None


def device_verdicts(
    connection: Connection, device_id: str, limit: int, before: Place | None = None
) -> Verdicts:
    """A device's totals, and ``limit`` of its rejections, those before ``before`` in the log."""
    page = _rejections(connection, device_id, limit + 1, before)
    shown = page[:limit]
    rejected = _rejected(connection, device_id)
    totals = connection.execute(
        select(device_totals.c.reports, device_totals.c.samples, device_totals.c.bytes).where(
            device_totals.c.device_id == device_id
        )
    ).one_or_none()
    reports, samples, length = (0, 0, 0) if totals is None else totals
    return Verdicts(
        reports,
        samples,
        length,
        rejected,
        sum(rejected.values()) < REJECTIONS_COUNTED_MAX,
        tuple(shown),
        shown[-1].place if len(page) > limit else None,
    )


def _rejections(connection: Connection, device_id: str, limit: int, before: Place | None) -> list[Rejection]:
    query = select(rejections).where(rejections.c.device_id == device_id)
    if before is not None:
        index, position = before
        query = query.where(
            (rejections.c.log_index < index)
            | ((rejections.c.log_index == index) & (rejections.c.position < position))
        )
    query = query.order_by(rejections.c.log_index.desc(), rejections.c.position.desc()).limit(limit)
    return [
        Rejection(
            (row.log_index, row.position),
            row.boot,
            row.seq,
            NAMES[row.code],
            row.detail,
            row.received_ms,
            row.code not in _UNPROVEN,
        )
        for row in connection.execute(query)
    ]


def _rejected(connection: Connection, device_id: str) -> dict[str, int]:
    newest = (
        select(rejections.c.code)
        .where(rejections.c.device_id == device_id)
        .order_by(rejections.c.log_index.desc(), rejections.c.position.desc())
        .limit(REJECTIONS_COUNTED_MAX)
        .subquery()
    )
    counted = select(newest.c.code, func.count()).group_by(newest.c.code).order_by(newest.c.code)
    return {NAMES[code]: count for code, count in connection.execute(counted)}
