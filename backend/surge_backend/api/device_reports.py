"""What became of a device's reports: verdicts with reasons, gaps, and alarms.

Place in the flow: reads what ingest stored. Shows withheld reports as gaps (threat 9) and a device's own
counters beside what was counted; decides nothing.
"""

from dataclasses import asdict
from typing import Annotated

from fastapi import Query
from pydantic import Field
from sqlalchemy import select

from surge_backend.api import problems
from surge_backend.api.fields import PAGE_DEFAULT, PAGE_MAX, DeviceId, DevicePath, Model, TimeMs
from surge_backend.api.guard import CurrentPrincipal, bearer
from surge_backend.api.routes import Routes
from surge_backend.api.scopes import owner_scope
from surge_backend.api.services import ServicesDep
from surge_backend.db.schema import alarms
from surge_backend.registry.device_rows import get_device
from surge_backend.registry.report_rows import (
    BOOTS_LISTED_MAX,
    MISSING_RANGES_MAX,
    accepted_count,
    list_gaps,
    list_rejections,
    rejected_counts,
)
from surge_backend.registry.tokens import Role
from surge_wire.limits import UINT32_MAX, UINT53_MAX
from surge_wire.verdicts import NAMES

routes = Routes("devices")

_READERS = bearer(Role.ADMIN, Role.OWNER, Role.AUDITOR)
_BEFORE_PATTERN = r"^[0-9]{1,15}\.[0-9]{1,6}$"


class Rejection(Model):
    """A report that was not accepted, and why. `boot` and `seq` are what it claimed."""

    id: Annotated[str, Field(description="its place: the log's entry and the position in that batch")]
    boot: int | None
    seq: int | None
    verdict: str
    detail: str
    received_ms: TimeMs


class Verdicts(Model):
    """Counts of all verdicts, and rejections newest first. `before` of the next page is the last one's id."""

    accepted: int
    rejected: Annotated[dict[str, int], Field(description="by verdict")]
    rejections: list[Rejection]


class Range(Model):
    """Inclusive."""

    first: int
    last: int


class UsageClaim(Model):
    """The device's last word on its own counters in this boot, up to report `seq`, and what was counted till
    there.
    """

    seq: int
    claimed_reports: int
    claimed_samples: int
    claimed_bytes: int
    counted_reports: int
    counted_samples: int
    counted_bytes: int
    dropped: Annotated[int, Field(description="readings that the device says it had no room for")]


class BootGaps(Model):
    """One boot.

    What is missing never arrived: withheld, lost, still on its way, or `summarised` by a gateway.
    """

    boot: int
    seq_max: int
    received: int
    first_seen_ms: TimeMs
    last_seen_ms: TimeMs
    summarised: int
    missing_count: int
    missing: Annotated[list[Range], Field(description=f"the first {MISSING_RANGES_MAX}")]
    missing_complete: bool
    claim: UsageClaim | None


class Gaps(Model):
    """Boots, newest first; older ones with `before_boot`."""

    device_id: DeviceId
    boots: list[BootGaps]


class Alarm(Model):
    """Something that a person should look at."""

    id: int
    time_ms: TimeMs
    kind: str
    subject: str
    detail: str


@routes.get(
    "/v1/devices/{device_id}/verdicts",
    access=_READERS,
    problems=(problems.NOT_FOUND,),
    summary="What became of a device's reports",
)
def get_verdicts(
    device_id: DevicePath,
    principal: CurrentPrincipal,
    services: ServicesDep,
    before: Annotated[str | None, Query(pattern=_BEFORE_PATTERN, examples=["12.3"])] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
) -> Verdicts:
    """Every rejection is kept with its reason; what was accepted is counted."""
    cursor = None
    if before is not None:
        log_index, _, position = before.partition(".")
        cursor = (int(log_index), int(position))
    with services.database.read() as connection:
        get_device(connection, device_id, owner_scope(principal))
        rows = list_rejections(connection, device_id, cursor, limit)
        return Verdicts(
            accepted=accepted_count(connection, device_id),
            rejected={NAMES[code]: n for code, n in sorted(rejected_counts(connection, device_id).items())},
            rejections=[
                Rejection(
                    id=f"{row['log_index']}.{row['position']}",
                    boot=row["boot"],
                    seq=row["seq"],
                    verdict=NAMES[row["code"]],
                    detail=row["detail"],
                    received_ms=row["received_ms"],
                )
                for row in rows
            ],
        )


@routes.get(
    "/v1/devices/{device_id}/gaps",
    access=_READERS,
    problems=(problems.NOT_FOUND,),
    summary="Reports that never arrived",
)
def get_gaps(
    device_id: DevicePath,
    principal: CurrentPrincipal,
    services: ServicesDep,
    before_boot: Annotated[int | None, Query(ge=0, le=UINT32_MAX)] = None,
    limit: Annotated[int, Query(ge=1, le=BOOTS_LISTED_MAX)] = BOOTS_LISTED_MAX,
) -> Gaps:
    """By boot: a device counts its reports without a hole, so what is missing shows."""
    with services.database.read() as connection:
        get_device(connection, device_id, owner_scope(principal))
        found = list_gaps(connection, device_id, before_boot, limit)
    boots = []
    for boot in found:
        fields = asdict(boot)
        fields["missing"] = [Range(first=first, last=last) for first, last in boot.missing]
        fields["claim"] = None if boot.claim is None else UsageClaim(**asdict(boot.claim))
        boots.append(BootGaps(**fields))
    return Gaps(device_id=device_id, boots=boots)


@routes.get("/v1/alarms", access=bearer(Role.ADMIN, Role.AUDITOR), tags=["system"], summary="List alarms")
def get_alarms(
    services: ServicesDep,
    before: Annotated[int, Query(ge=1, le=UINT53_MAX, description="the id to go on from")] = UINT53_MAX,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
) -> list[Alarm]:
    """Newest first: frozen devices, batches in conflict, broken chains."""
    query = select(alarms).where(alarms.c.id < before).order_by(alarms.c.id.desc()).limit(limit)
    with services.database.read() as connection:
        rows = connection.execute(query).mappings().all()
    return [Alarm(**row) for row in rows]
