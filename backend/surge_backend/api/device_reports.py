"""What became of a device's reports: verdicts with reasons, gaps, and alarms.

Place in the flow: reads what ingest stored. Shows withheld reports as gaps (threat 9) and a device's own
counters beside what was counted; decides nothing.
"""

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field

from surge_backend.api import problems
from surge_backend.api.fields import PAGE_DEFAULT, PAGE_MAX, DeviceId, DevicePath, Model, Number, TimeMs
from surge_backend.api.guard import CurrentPrincipal, bearer
from surge_backend.api.routes import Routes
from surge_backend.api.scopes import owner_scope
from surge_backend.api.services import ServicesDep
from surge_backend.queries import gaps, verdicts
from surge_backend.queries.alarms import list_alarms
from surge_backend.queries.gaps import BOOTS_MAX, RANGES_MAX
from surge_backend.queries.verdicts import REJECTIONS_COUNTED_MAX
from surge_backend.registry.device_rows import get_device
from surge_backend.registry.tokens import Role
from surge_wire.limits import UINT32_MAX, UINT53_MAX

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
    proven: Annotated[bool, Field(description="whether the device made it; if not, anybody may have")]


class Verdicts(Model):
    """Totals, and rejections newest first. `next_before` is the next page's `before`, null on the last."""

    accepted: int
    accepted_samples: int
    accepted_bytes: int
    rejected: Annotated[
        dict[str, int], Field(description=f"by verdict, of the newest {REJECTIONS_COUNTED_MAX}")
    ]
    rejected_complete: Annotated[bool, Field(description="whether `rejected` counts all there are")]
    rejections: list[Rejection]
    next_before: str | None


class Range(Model):
    """Inclusive. `summarised` by a gateway, which says so without proof, or just `missing`."""

    first: int
    last: int
    state: Literal["missing", "summarised"]


class UsageClaim(Model):
    """The device's last word on its own counters in this boot, up to report `seq`, and what was counted till
    there: null if the claim is too far back for counting.
    """

    seq: int
    claimed_reports: int
    claimed_samples: int
    claimed_bytes: int
    counted_reports: int | None
    counted_samples: int | None
    counted_bytes: int | None
    dropped: Annotated[int, Field(description="readings that the device says it had no room for")]


class BootGaps(Model):
    """One boot.

    What is missing never arrived: withheld, lost, still on its way, or `summarised` by a gateway.
    """

    boot: int
    seq_max: int
    declared_end: Annotated[
        int | None, Field(description="how many reports it sealed, as the next boot says; null if unknown")
    ]
    received: int
    first_seen_ms: TimeMs
    last_seen_ms: TimeMs
    summarised: Annotated[int, Field(description="how many of the reports listed as missing are summarised")]
    missing_count: int
    missing: Annotated[list[Range], Field(description=f"at most {RANGES_MAX}, rising")]
    missing_complete: Annotated[bool, Field(description="whether `missing` lists all there are")]
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
    limit: Annotated[Number, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
) -> Verdicts:
    """Every rejection is kept with its reason; what was accepted is counted."""
    with services.database.read() as connection:
        get_device(connection, device_id, owner_scope(principal))
        found = verdicts.device_verdicts(connection, device_id, limit, _place(before))
    return Verdicts(
        accepted=found.accepted_reports,
        accepted_samples=found.accepted_samples,
        accepted_bytes=found.accepted_bytes,
        rejected=found.rejected,
        rejected_complete=found.rejected_complete,
        rejections=[
            Rejection(
                id=_place_id(item.place),
                boot=item.boot,
                seq=item.seq,
                verdict=item.verdict,
                detail=item.detail,
                received_ms=item.received_ms,
                proven=item.proven,
            )
            for item in found.rejections
        ],
        next_before=None if found.next_before is None else _place_id(found.next_before),
    )


def _place(text: str | None) -> verdicts.Place | None:
    if text is None:
        return None
    log_index, _, position = text.partition(".")
    return int(log_index), int(position)


def _place_id(place: verdicts.Place) -> str:
    return f"{place[0]}.{place[1]}"


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
    before_boot: Annotated[Number | None, Query(ge=0, le=UINT32_MAX)] = None,
    limit: Annotated[Number, Query(ge=1, le=BOOTS_MAX)] = BOOTS_MAX,
) -> Gaps:
    """By boot: a device counts its reports without a hole, so what is missing shows."""
    with services.database.read() as connection:
        get_device(connection, device_id, owner_scope(principal))
        found = gaps.device_gaps(connection, device_id, limit, before_boot)
    return Gaps(device_id=device_id, boots=[_boot(boot) for boot in found])


def _boot(boot: gaps.BootGaps) -> BootGaps:
    return BootGaps(
        boot=boot.boot,
        seq_max=boot.seq_max,
        declared_end=boot.declared_end,
        received=boot.received_reports,
        first_seen_ms=boot.first_seen_ms,
        last_seen_ms=boot.last_seen_ms,
        summarised=boot.summarised_reports,
        missing_count=boot.missing_reports,
        missing=[Range(first=item.first, last=item.last, state=item.state) for item in boot.ranges],
        missing_complete=not boot.more,
        claim=None if boot.claim is None else _usage(boot.claim),
    )


def _usage(claim: gaps.Claim) -> UsageClaim:
    return UsageClaim(
        seq=claim.seq,
        claimed_reports=claim.reports,
        claimed_samples=claim.samples,
        claimed_bytes=claim.bytes,
        counted_reports=claim.counted_reports,
        counted_samples=claim.counted_samples,
        counted_bytes=claim.counted_bytes,
        dropped=claim.dropped,
    )


@routes.get("/v1/alarms", access=bearer(Role.ADMIN, Role.AUDITOR), tags=["system"], summary="List alarms")
def get_alarms(
    services: ServicesDep,
    before: Annotated[Number, Query(ge=1, le=UINT53_MAX, description="the id to go on from")] = UINT53_MAX,
    limit: Annotated[Number, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
) -> list[Alarm]:
    """Newest first: frozen devices, batches in conflict, broken chains."""
    with services.database.read() as connection:
        return [Alarm(**asdict(alarm)) for alarm in list_alarms(connection, limit, before)]
