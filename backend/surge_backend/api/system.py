"""Statistics, health, metrics and the API's description.

Place in the flow: public; read by the status page, the demo, supervisors and Prometheus. Shows numbers and
states, never names, paths or addresses: those are in the log.

Rules kept: `/healthz` is 503 only if the backend can't take batches; a telemetry store that is down makes it
"degraded".
"""

from typing import Annotated, Literal

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from surge_backend.api.fields import Model
from surge_backend.api.guard import PUBLIC
from surge_backend.api.routes import Routes
from surge_backend.api.services import Services, ServicesDep
from surge_backend.errors import BackendError
from surge_backend.metrics import CONTENT_TYPE as METRICS_TYPE

routes = Routes("system")


class Stats(Model):
    """The network so far. `telemetry_points` is null while the store doesn't answer."""

    devices: int
    gateways: int
    batches: int
    reports_accepted: int
    reports_rejected: int
    credited_microcredits: int
    telemetry_points: int | None
    telemetry_lag: Annotated[int, Field(description="batches whose telemetry is still to be written")]
    tree_size: int


class ComponentHealth(Model):
    """One part's state, in a word, and more where it helps."""

    ok: bool
    detail: str


class Health(Model):
    """`failing` answers 503: no batches are taken.

    `degraded`: batches are taken, something derived is behind.
    """

    status: Literal["ok", "degraded", "failing"]
    database: ComponentHealth
    log: ComponentHealth
    telemetry: ComponentHealth
    projector: ComponentHealth


@routes.get("/v1/stats", access=PUBLIC, summary="The network so far")
async def get_stats(services: ServicesDep) -> Stats:
    """Public numbers."""
    counts = await services.counts.get()
    return Stats(
        devices=counts.devices,
        gateways=counts.gateways,
        batches=counts.batches,
        reports_accepted=counts.reports_accepted,
        reports_rejected=counts.reports_rejected,
        credited_microcredits=counts.credited_microcredits,
        telemetry_points=await services.telemetry_points.get(),
        telemetry_lag=services.keeper.lag,
        tree_size=counts.batches,
    )


def _database_health(services: Services) -> ComponentHealth:
    try:
        with services.database.read() as connection:
            connection.execute(text("SELECT 1"))
    except (BackendError, SQLAlchemyError):
        return ComponentHealth(ok=False, detail="can't be read: see the backend's log")
    fault = services.intake.fault
    return ComponentHealth(ok=not fault, detail=fault or "takes batches")


async def check_health(services: Services) -> Health:
    """Ask every part."""
    database = await run_in_threadpool(_database_health, services)
    stopped = services.log.stopped
    log = ComponentHealth(
        ok=not stopped, detail="doesn't sign: see the backend's log" if stopped else "signs"
    )
    store = await services.telemetry_health.get()
    store_ok = store is not None and store.ok
    telemetry = ComponentHealth(
        ok=store_ok, detail="answers" if store_ok else "doesn't answer: see the backend's log"
    )
    stats = services.projector.stats
    projector = ComponentHealth(
        ok=not stats.last_error,
        detail=f"{services.keeper.lag} batches behind" + (", trying again" if stats.last_error else ""),
    )
    status: Literal["ok", "degraded", "failing"] = "ok"
    if not (telemetry.ok and projector.ok):
        status = "degraded"
    if not (database.ok and log.ok):
        status = "failing"
    return Health(status=status, database=database, log=log, telemetry=telemetry, projector=projector)


@routes.get(
    "/healthz",
    access=PUBLIC,
    responses={503: {"model": Health, "description": "No batches are taken"}},
    summary="Whether the backend takes batches, and how its parts are",
)
async def get_health(services: ServicesDep, response: Response) -> Health:
    """200 as long as batches are taken."""
    health = await check_health(services)
    response.status_code = 503 if health.status == "failing" else 200
    return health


@routes.get(
    "/metrics",
    access=PUBLIC,
    response_class=Response,
    responses={200: {"description": "Prometheus' text format", "content": {METRICS_TYPE: {}}}},
    summary="Measurements, for Prometheus",
)
def get_metrics(services: ServicesDep) -> Response:
    """Counters, histograms and gauges."""
    return Response(services.metrics.render(), media_type=METRICS_TYPE)


@routes.get("/openapi.json", access=PUBLIC, include_in_schema=False)
def get_openapi_description(request: Request) -> JSONResponse:
    """The description that `/docs` shows."""
    return JSONResponse(request.app.openapi_schema)
