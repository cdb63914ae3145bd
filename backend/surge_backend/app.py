"""The composition root: opens everything, runs the server and the projector, and closes in the order of the
flow.

Place in the flow: `cli` calls `run_backend`; what is opened here goes to the API as `Services`. Decides
nothing about batches, money or tokens.

Rules kept: one TaskGroup, named tasks; on SIGTERM or SIGINT the server stops accepting, finishes what it has
begun, then the projector, the telemetry store and the database are closed. A telemetry store that is down, or
a projector that fails, never stops the intake of batches. A log that isn't what was signed doesn't stop
reading: it stops signing.
"""

import asyncio
import functools
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NoReturn

import anyio.to_thread
import structlog
from sqlalchemy.exc import DBAPIError

from surge_backend.api.application import make_application
from surge_backend.api.counts import CountsCache
from surge_backend.api.intake import Intake
from surge_backend.api.rates import Rate
from surge_backend.api.services import RateLimits, Services
from surge_backend.api.watch import Watched
from surge_backend.collector import tune_collector
from surge_backend.db.engine import POOL_SIZE, Database
from surge_backend.errors import BackendError, LogForked
from surge_backend.ingest import Ingest
from surge_backend.keys import read_log_key, read_master_key
from surge_backend.log import MerkleLog
from surge_backend.measurements import hold_folder, leave_folder, measurements_folder
from surge_backend.metrics import REFRESH_S, Metrics, count_restarts, forget_gauges, share_measurements
from surge_backend.observability import set_up_logging
from surge_backend.opening import (
    as_user_error,
    check_master_key,
    cursor_name,
    locked_data_dir,
    opened_database,
    shown_url,
    unusable,
)
from surge_backend.projection import Keeper, make_projector
from surge_backend.projection.lease import make_lease
from surge_backend.server import (
    announce,
    listening_socket,
    make_server,
    say_where,
    stops_on_signals,
    stops_when_orphaned,
    warn_of_plain_http,
)
from surge_backend.settings import EMBEDDED_KIND, LimitSettings, Settings, store_settings
from surge_backend.telemetry.factory import make_store
from surge_backend.telemetry.store import StoreUnavailable, TelemetryStore
from surge_backend.upkeep import wall_clock_ms
from surge_backend.workers import Supervisor, WorkerPlace
from surge_host.errors import UserError

# As many threads as the database has connections: one more would only wait for a connection.
THREADS_MAX = 2 * POOL_SIZE
STOP_GRACE_S = 10  # that a worker has after its requests were cut off

_log = structlog.get_logger("surge.backend")


def run_backend(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT. Raises UserError for what keeps it from starting."""
    set_up_logging(settings.log.level, settings.log.format == "json")
    with locked_data_dir(settings), listening_socket(settings.server) as listener:
        warn_of_plain_http(settings.server, listener)
        if settings.server.workers == 1:
            asyncio.run(_serve(settings, listener, lambda: say_where(settings.server, listener)))
            return 0
        _prepare(settings)
        with measurements_folder(settings.storage.data_dir) as measurements:
            return _supervised(settings, listener, measurements)


def _prepare(settings: Settings) -> None:
    """Whatever keeps workers from starting is found once, before there are any; nothing stays open."""
    with opened_database(settings) as database:
        log = MerkleLog(read_log_key(settings.storage.log_key_path).seed)
        check_master_key(settings, database, read_master_key(settings.storage.master_key_path))
        _open_log(log, database, wall_clock_ms())


def _supervised(settings: Settings, listener: socket.socket, measurements: str) -> int:
    folder = Path(measurements)
    share_measurements(folder, "supervisor")
    restarts = count_restarts()

    supervisor = os.getpid()

    def work(place: WorkerPlace) -> int:
        held = hold_folder(folder)
        share_measurements(folder, str(place.number))
        structlog.contextvars.bind_contextvars(worker=place.number)

        try:
            asyncio.run(_serve(settings, listener, place.say_ready, place.orphaned, folder))
        except UserError as error:
            _log.error("worker_cannot_start", what=error.what, where=error.where, remedy=error.remedy)
            return 2
        finally:
            if os.getppid() != supervisor:  # it was killed, so it doesn't clear up
                leave_folder(folder, held)
        return 0

    def ended(number: int) -> None:
        restarts()
        forget_gauges(folder, str(number))

    return Supervisor(
        settings.server.workers,
        work,
        lambda: say_where(settings.server, listener),
        ended,
        settings.server.shutdown_timeout_s + STOP_GRACE_S,
    ).run()


async def _serve(
    settings: Settings,
    listener: socket.socket,
    say_ready: Callable[[], None],
    orphaned: int | None = None,
    measurements: Path | None = None,
) -> None:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS_MAX
    async with opened_services(settings, measurements=measurements) as services:
        application = make_application(services, body_timeout_s=settings.server.body_timeout_s)
        server = make_server(settings.server, application)
        tune_collector()
        with stops_on_signals(server), stops_when_orphaned(server, orphaned):
            async with asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(services.keeper.run(), name="keeper"),
                    tasks.create_task(announce(server, say_ready), name="announcer"),
                ]
                if measurements is not None:
                    beside.append(tasks.create_task(_keep_measured(services.metrics), name="measurer"))
                try:
                    await server.serve(sockets=[listener])
                finally:
                    for task in beside:
                        task.cancel()
        _log.info("stopped")


async def _keep_measured(metrics: Metrics) -> NoReturn:
    while True:
        await asyncio.sleep(REFRESH_S)
        metrics.refresh()


@asynccontextmanager
async def opened_services(
    settings: Settings,
    *,
    now_ms: Callable[[], int] = wall_clock_ms,
    monotonic_s: Callable[[], float] = time.monotonic,
    measurements: Path | None = None,
) -> AsyncIterator[Services]:
    """Everything that the routes use, open; closed in reverse. Raises UserError."""
    async with AsyncExitStack() as stack:
        database = stack.enter_context(opened_database(settings))
        vault = read_master_key(settings.storage.master_key_path)
        log = MerkleLog(read_log_key(settings.storage.log_key_path).seed)
        check_master_key(settings, database, vault)
        _open_log(log, database, now_ms())
        store = make_store(store_settings(settings))
        stack.push_async_callback(store.close)
        await _open_store(store)
        metrics = Metrics(measurements)
        cursor = cursor_name(settings)
        projector = make_projector(
            database,
            store,
            settings.telemetry.retry_max_s,
            settings.telemetry.series_per_device_max,
            metrics.points_left_out,
            cursor,
        )
        lease = make_lease(database, settings.telemetry.kind == EMBEDDED_KIND)
        with database.read() as connection:
            projector.notify(log.head(connection)[0].tree_size)  # so that the lag is right from the start
        telemetry_points = Watched("points", store.count)
        telemetry_health = Watched("health", store.health)
        stack.push_async_callback(telemetry_points.close)
        stack.push_async_callback(telemetry_health.close)
        intake = Intake(
            Ingest(database, log, vault.open),
            metrics,
            projector.notify,
            now_ms=now_ms,
            waiting_max=settings.limits.batches_waiting_max,
            retry_after_s=settings.limits.retry_after_s,
        )
        services = Services(
            database=database,
            vault=vault,
            log=log,
            intake=intake,
            store=store,
            projector=projector,
            keeper=Keeper(database, projector, lease, cursor),
            metrics=metrics,
            rates=_rates(settings.limits),
            counts=CountsCache(database),
            telemetry_points=telemetry_points,
            telemetry_health=telemetry_health,
            now_ms=now_ms,
            monotonic_s=monotonic_s,
            retry_after_s=settings.limits.retry_after_s,
        )
        metrics.observe(functools.partial(_gauges, services))
        yield services


def _open_log(log: MerkleLog, database: Database, time_ms: int) -> None:
    try:
        with database.write() as connection:
            log.open(connection, time_ms)
    except LogForked as error:
        # Auditors must be able to read what is stored; nothing is signed and no batch is taken.
        _log.critical("log_forked", error=str(error))
    except BackendError as error:
        raise as_user_error(error, shown_url(database)) from error
    except DBAPIError as error:
        raise unusable(error, shown_url(database)) from error


async def _open_store(store: TelemetryStore) -> None:
    try:
        await store.open()
    except StoreUnavailable as error:
        _log.warning("telemetry_store_unavailable", what=error.what, remedy=error.remedy)


def _rates(limits: LimitSettings) -> RateLimits:
    return RateLimits.of(
        public=Rate(limits.public_burst, limits.public_per_second),
        enrolment=Rate(limits.enrolment_burst, limits.enrolment_per_second),
        failed_tokens=Rate(limits.failed_token_burst, limits.failed_token_per_second),
    )


def _gauges(services: Services) -> dict[str, tuple[str, float | None]]:
    stats = services.projector.stats
    return {
        "surge_telemetry_lag_batches": (
            "Batches whose telemetry is still to be written.",
            services.keeper.lag,
        ),
        "surge_telemetry_points_written": (
            "Points written since the start, repeats included.",
            stats.written,
        ),
        "surge_telemetry_points_rejected": ("Points that the store will never take.", stats.rejected),
        "surge_telemetry_retries": ("Times that the store was tried again.", stats.retries),
        "surge_batches_waiting": ("Batches that wait for their turn.", services.intake.waiting),
        "surge_log_stopped": ("1 if the log doesn't sign.", 1.0 if services.log.stopped else 0.0),
        "surge_requests_limited": (
            "Requests refused by a rate limit.",
            services.rates.public.refused
            + services.rates.enrolment.refused
            + services.rates.failed_tokens.refused,
        ),
    }
