"""Telemetry over HTTP: what a device measured, in a range of time, as samples or as windows.

Place in the flow: reads the telemetry store; whose device it is comes from the database. The store may be
down: then the answer is 503 while everything else goes on, since telemetry is derived.
"""

from typing import Annotated

import structlog
from fastapi import Query
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from surge_backend.api import problems
from surge_backend.api.fields import DeviceId, DevicePath, Model, Number
from surge_backend.api.guard import CurrentPrincipal, bearer
from surge_backend.api.problems import Problem, retry_later
from surge_backend.api.routes import Routes
from surge_backend.api.scopes import owner_scope
from surge_backend.api.services import Services, ServicesDep
from surge_backend.registry.device_rows import get_device
from surge_backend.registry.tokens import Principal, Role
from surge_backend.telemetry.points import NS_PER_MS, PointError
from surge_backend.telemetry.store import (
    QUERY_LIMIT_DEFAULT,
    QUERY_LIMIT_MAX,
    TIME_MAX_MS,
    TIME_MIN_MS,
    Aggregate,
    QueryError,
    Sample,
    StoreQueryFailed,
    StoreUnavailable,
    TelemetryQuery,
)
from surge_wire.limits import NAME_LEN_MAX

routes = Routes("telemetry")

_log = structlog.get_logger("surge.backend.api")

_READERS = bearer(Role.ADMIN, Role.OWNER, Role.AUDITOR)
_PROBLEMS = (problems.NOT_FOUND, problems.TELEMETRY_DOWN)
DEFAULT_RANGE_MS = 3_600_000  # without from_ms: the last hour before to_ms
FUTURE_MS = 60_000  # without to_ms: up to now, and what clocks a little ahead of ours say

_TimeQuery = Annotated[
    Number | None, Query(ge=TIME_MIN_MS, le=TIME_MAX_MS, description="milliseconds since 1970")
]


class TelemetrySample(Model):
    """A sample, or a window's aggregate at the window's start.

    `flags`: 1 the time is the gateway's, 2 the device's clock was out of bounds, 4 the value sums up a
    window.
    """

    name: str
    unit: str
    time_ms: int
    time_ns: Annotated[str, Field(description="in decimal: it has more digits than many JSON readers keep")]
    value: bool | float | str
    flags: int


class TelemetrySamples(Model):
    """Samples in order of time. `more`: the limit cut the answer; ask again from the last one's time."""

    device_id: DeviceId
    from_ms: int
    to_ms: int
    more: bool
    samples: list[TelemetrySample]


def _samples(found: list[Sample]) -> list[TelemetrySample]:
    return [
        TelemetrySample(
            name=sample.name,
            unit=sample.unit,
            time_ms=sample.time_ns // NS_PER_MS,
            time_ns=str(sample.time_ns),
            value=sample.value,
            flags=sample.flags,
        )
        for sample in found
    ]


def _check_visible(services: Services, principal: Principal, device_id: str) -> None:
    with services.database.read() as connection:
        get_device(connection, device_id, owner_scope(principal))


def _down(services: Services, error: StoreUnavailable) -> Problem:
    # The store's own words may name files and addresses: those are for the log and the operator's /healthz.
    _log.warning("telemetry_query_failed", what=error.what, remedy=error.remedy)
    wait_s = max(services.retry_after_s, round(error.retry_after_s or 0))
    return retry_later(problems.TELEMETRY_DOWN, "the telemetry store doesn't answer; batches go on", wait_s)


@routes.get(
    "/v1/devices/{device_id}/telemetry", access=_READERS, problems=_PROBLEMS, summary="A device's samples"
)
async def get_telemetry(
    device_id: DevicePath,
    principal: CurrentPrincipal,
    services: ServicesDep,
    name: Annotated[str | None, Query(max_length=NAME_LEN_MAX, description="absent: all")] = None,
    from_ms: _TimeQuery = None,
    to_ms: _TimeQuery = None,
    limit: Annotated[Number, Query(ge=1, le=QUERY_LIMIT_MAX)] = QUERY_LIMIT_DEFAULT,
    window_ms: Annotated[Number | None, Query(ge=1, le=TIME_MAX_MS, description="with aggregate")] = None,
    aggregate: Annotated[Aggregate | None, Query(description="with window_ms")] = None,
) -> TelemetrySamples:
    """In `[from_ms, to_ms)`, by default the last hour, oldest first; with `window_ms` one a window."""
    await run_in_threadpool(_check_visible, services, principal, device_id)
    end_ms = min(TIME_MAX_MS, services.now_ms() + FUTURE_MS) if to_ms is None else to_ms
    start_ms = max(TIME_MIN_MS, end_ms - DEFAULT_RANGE_MS) if from_ms is None else from_ms
    try:
        query = TelemetryQuery(device_id, start_ms, end_ms, name, limit, window_ms, aggregate)
        found = await services.store.query(query)
    except (QueryError, PointError, StoreQueryFailed) as error:
        raise Problem(problems.INVALID, str(error)) from None
    except StoreUnavailable as error:
        raise _down(services, error) from error
    return TelemetrySamples(
        device_id=device_id, from_ms=start_ms, to_ms=end_ms, more=len(found) >= limit, samples=_samples(found)
    )


@routes.get(
    "/v1/devices/{device_id}/telemetry/latest",
    access=_READERS,
    problems=_PROBLEMS,
    summary="A device's newest samples",
)
async def get_latest(
    device_id: DevicePath, principal: CurrentPrincipal, services: ServicesDep
) -> list[TelemetrySample]:
    """One of each quantity, in order of name."""
    await run_in_threadpool(_check_visible, services, principal, device_id)
    try:
        return _samples(await services.store.latest(device_id))
    except StoreUnavailable as error:
        raise _down(services, error) from error
    except StoreQueryFailed as error:
        raise Problem(problems.INVALID, str(error)) from None
