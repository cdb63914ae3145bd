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
import contextlib
import errno
import functools
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import anyio.to_thread
import structlog
import uvicorn
from sqlalchemy import select

from surge_backend.api.application import make_application
from surge_backend.api.intake import Intake
from surge_backend.api.rates import Rate
from surge_backend.api.services import RateLimits, Services
from surge_backend.api.system import CountsCache
from surge_backend.api.watch import Watched
from surge_backend.db.engine import POOL_SIZE, Database
from surge_backend.db.schema import devices
from surge_backend.errors import BackendError, LogForked
from surge_backend.ingest import Ingest
from surge_backend.keys import SealError, SecretVault, read_log_key, read_master_key
from surge_backend.log import MerkleLog
from surge_backend.metrics import Metrics
from surge_backend.observability import set_up_logging
from surge_backend.opening import as_user_error, locked_data_dir, opened_database, shown_url
from surge_backend.projection import make_projector
from surge_backend.settings import LimitSettings, ServerSettings, Settings, store_settings
from surge_backend.telemetry.factory import make_store
from surge_backend.telemetry.projector import Projector
from surge_backend.telemetry.store import StoreUnavailable, TelemetryStore
from surge_backend.upkeep import now_ms
from surge_cli.errors import UserError

# As many threads as the database has connections: one more would only wait for a connection.
THREADS_MAX = 2 * POOL_SIZE
PROJECTOR_RESTART_S = 5.0  # after a failure that is a defect, not the store's

_log = structlog.get_logger("surge.backend")


def run_backend(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT. Raises UserError for what keeps it from starting."""
    set_up_logging(settings.log.level, settings.log.format == "json")
    with locked_data_dir(settings), listening_socket(settings.server) as listener:
        asyncio.run(_serve(settings, listener))
    return 0


@contextmanager
def listening_socket(server: ServerSettings) -> Iterator[socket.socket]:
    """A bound socket, so that a port in use shows before anything is opened. Raises UserError."""
    where = f"[server] host = {server.host}, port = {server.port}"
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise UserError(
            f"no such address: {error.strerror}", where, "set host to an address of this machine"
        ) from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.set_inheritable(False)
        try:
            listener.bind(address)
        except OSError as error:
            raise _cannot_bind(error, server, where) from error
        yield listener
    finally:
        listener.close()


def _cannot_bind(error: OSError, server: ServerSettings, where: str) -> UserError:
    if error.errno == errno.EADDRINUSE:
        return UserError(
            f"port {server.port} is in use by another program",
            where,
            "stop that program, or set another port under [server] (0 takes any free one)",
        )
    if error.errno == errno.EACCES:
        return UserError(f"port {server.port} needs more rights", where, "set a port from 1024 on")
    return UserError(f"can't listen: {error.strerror}", where, "set host to an address of this machine")


async def _serve(settings: Settings, listener: socket.socket) -> None:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS_MAX
    async with opened_services(settings) as services:
        application = make_application(services, body_timeout_s=settings.server.body_timeout_s)
        server = _make_server(settings.server, application)
        with _stops_on_signals(server):
            async with asyncio.TaskGroup() as tasks:
                projector = tasks.create_task(_keep_projecting(services.projector), name="projector")
                announcer = tasks.create_task(_announce(settings.server, server, listener), name="announcer")
                try:
                    await server.serve(sockets=[listener])
                finally:
                    announcer.cancel()
                    projector.cancel()
        _log.info("stopped")


@asynccontextmanager
async def opened_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything that the routes use, open; closed in reverse. Raises UserError."""
    async with AsyncExitStack() as stack:
        database = stack.enter_context(opened_database(settings))
        vault = read_master_key(settings.storage.master_key_path)
        log = MerkleLog(read_log_key(settings.storage.log_key_path).seed)
        check_master_key(settings, database, vault)
        _open_log(log, database)
        store = make_store(store_settings(settings))
        stack.push_async_callback(store.close)
        await _open_store(store)
        projector = make_projector(database, store, settings.telemetry.retry_max_s)
        metrics = Metrics()
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
            metrics=metrics,
            rates=_rates(settings.limits),
            counts=CountsCache(database),
            telemetry_points=telemetry_points,
            telemetry_health=telemetry_health,
            now_ms=now_ms,
            monotonic_s=time.monotonic,
            retry_after_s=settings.limits.retry_after_s,
        )
        metrics.observe(functools.partial(_gauges, services))
        yield services


def check_master_key(settings: Settings, database: Database, vault: SecretVault) -> None:
    """Raises UserError if the master key is not the one that the devices' secrets were sealed under."""
    with database.read() as connection:
        row = connection.execute(select(devices.c.id, devices.c.secret_sealed).limit(1)).one_or_none()
    if row is None:
        return
    try:
        vault.open(row.id, row.secret_sealed)
    except SealError as error:
        raise UserError(
            f"the master key doesn't belong to this database: {error}",
            str(settings.storage.master_key_path),
            "put the right master key there; without it no device can be checked",
        ) from error


def _open_log(log: MerkleLog, database: Database) -> None:
    try:
        with database.write() as connection:
            log.open(connection, now_ms())
    except LogForked as error:
        # Auditors must be able to read what is stored; nothing is signed and no batch is taken.
        _log.critical("log_forked", error=str(error))
    except BackendError as error:
        raise as_user_error(error, shown_url(database)) from error


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
        "surge_telemetry_lag_batches": ("Batches whose telemetry is still to be written.", stats.lag),
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


async def _keep_projecting(projector: Projector) -> None:
    """Run the projector for ever. A defect in it is logged and tried again: batches must go on."""
    while True:
        try:
            await projector.run()
        except Exception:
            _log.exception("projector_failed", restart_in_s=PROJECTOR_RESTART_S)
        await asyncio.sleep(PROJECTOR_RESTART_S)


class _Server(uvicorn.Server):
    """uvicorn, but for its signal handlers: it would raise the signal again before we have closed."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, then tell that connections are accepted."""
        await super().startup(sockets)
        self.answers.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_stops_on_signals`."""
        yield


def _make_server(server: ServerSettings, application: object) -> _Server:
    config = uvicorn.Config(
        application,  # type: ignore[arg-type]
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(server.trusted_proxies),
        forwarded_allow_ips=list(server.trusted_proxies),
        limit_concurrency=server.connections_max,
        timeout_keep_alive=server.keep_alive_s,
        timeout_graceful_shutdown=server.shutdown_timeout_s,
        ssl_certfile=server.tls_certificate,
        ssl_keyfile=server.tls_key,
    )
    try:
        config.load()
    except (ssl.SSLError, OSError) as error:
        raise UserError(
            f"TLS can't be set up: {error}",
            f"[server] tls_certificate = {server.tls_certificate}, tls_key = {server.tls_key}",
            "give a PEM certificate and the key that belongs to it",
        ) from error
    return _Server(config)


@contextmanager
def _stops_on_signals(server: uvicorn.Server) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        _log.info("stopping")
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def shown_address(server: ServerSettings, listener: socket.socket) -> str:
    """The URL that people and programs on this machine use."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if server.has_tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def _announce(server: ServerSettings, running: _Server, listener: socket.socket) -> None:
    """Say where the API is once it answers: one line on stdout, which programs may wait for."""
    address = shown_address(server, listener)
    if not server.is_loopback and not server.has_tls:
        _log.warning(
            "plain_http",
            address=address,
            what="tokens and enrolled secrets travel in clear text; who listens on the way can use them",
            remedy="let a proxy speak TLS before it, or set tls_certificate and tls_key",
        )
    await running.answers.wait()
    _log.info("listening", address=address)
    print(f"surge backend: {address} (API: {address}/docs)", flush=True)  # noqa: T201
