"""The read side that the API shows: verdicts and gaps of a device, alarms.

Place in the flow: resource modules of the API call these with a connection of `Database.read`, after they
have checked who asks. Every page is bounded by its caller's ``limit``; ``before`` is the ``next_before`` of
the page before it.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from surge_backend.db.gaps import BootGaps, Claim, Range, device_gaps
from surge_backend.db.schema import alarms, device_totals, rejections
from surge_wire.limits import BATCH_REPORTS_MAX
from surge_wire.verdicts import BAD_MAC, MALFORMED, NAMES, UNKNOWN_DEVICE

__all__ = (
    "Alarm",
    "AlarmsPage",
    "BootGaps",
    "Claim",
    "Range",
    "Rejection",
    "VerdictsPage",
    "alarms_page",
    "device_gaps",
    "device_verdicts",
)

# Without a MAC that holds, the device's id is what somebody wrote on the envelope.
_UNPROVEN: Final = frozenset((MALFORMED, UNKNOWN_DEVICE, BAD_MAC))


@dataclass(frozen=True, slots=True)
class Rejection:
    """A report that was not accepted. ``proven`` is False where its bytes only claim to be from the device.

    ``cursor`` rises with the log: ``log_index * BATCH_REPORTS_MAX + position``.
    """

    cursor: int
    log_index: int
    position: int
    boot: int | None
    seq: int | None
    verdict: str
    detail: str
    received_ms: int
    proven: bool


@dataclass(frozen=True, slots=True)
class VerdictsPage:
    """``accepted_*`` are the device's totals; ``next_before`` is None on the last page."""

    accepted_reports: int
    accepted_samples: int
    accepted_bytes: int
    rejections: tuple[Rejection, ...]
    next_before: int | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a person has to look at; ``subject`` is a device's or gateway's id."""

    id: int
    time_ms: int
    kind: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class AlarmsPage:
    """Newest first; ``next_before`` is None on the last page."""

    alarms: tuple[Alarm, ...]
    next_before: int | None


def device_verdicts(
    connection: Connection, device_id: str, limit: int, before: int | None = None
) -> VerdictsPage:
    """Every report of a device that was rejected, with its reason, newest first, and how much was accepted
    in all."""
    own = rejections.c.device_id == device_id
    query = select(rejections).where(own)
    if before is not None:
        index, position = divmod(before, BATCH_REPORTS_MAX)
        query = query.where(
            (rejections.c.log_index < index)
            | ((rejections.c.log_index == index) & (rejections.c.position < position))
        )
    query = query.order_by(rejections.c.log_index.desc(), rejections.c.position.desc()).limit(limit + 1)
    found = [
        Rejection(
            row.log_index * BATCH_REPORTS_MAX + row.position,
            row.log_index,
            row.position,
            row.boot,
            row.seq,
            NAMES[row.code],
            row.detail,
            row.received_ms,
            row.code not in _UNPROVEN,
        )
        for row in connection.execute(query)
    ]
    totals = connection.execute(
        select(device_totals.c.reports, device_totals.c.samples, device_totals.c.bytes).where(
            device_totals.c.device_id == device_id
        )
    ).first()
    reports, samples, length = (0, 0, 0) if totals is None else (totals[0], totals[1], totals[2])
    page = tuple(found[:limit])
    return VerdictsPage(reports, samples, length, page, page[-1].cursor if len(found) > limit else None)


def alarms_page(connection: Connection, limit: int, before: int | None = None) -> AlarmsPage:
    """Alarms about anything, newest first."""
    query = select(alarms).order_by(alarms.c.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(alarms.c.id < before)
    found = [
        Alarm(row.id, row.time_ms, row.kind, row.subject, row.detail) for row in connection.execute(query)
    ]
    page = tuple(found[:limit])
    return AlarmsPage(page, page[-1].id if len(found) > limit else None)
