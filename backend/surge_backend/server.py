"""The HTTP server around the API: its socket, TLS, signals, and the line that says where it listens.

Place in the flow: `app` opens the services, this serves them. Knows nothing of routes.

Rules kept: a port in use shows before anything is opened; signals set a flag and nothing else, so that what
was begun is finished; a server that is told to stop before it listens never does, and once it stops
listening no connection outlives the request that it is in; plain HTTP that other machines can reach is warned
of at every start.
"""

import asyncio
import contextlib
import errno
import select
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from surge_backend.settings import ServerSettings
from surge_host.errors import UserError

_log = structlog.get_logger("surge.backend")


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


class _State(ServerState):
    """What every connection sees of its server."""

    def __init__(self) -> None:
        super().__init__()
        self.closes = asyncio.Event()


class Connection(H11Protocol):
    """uvicorn's, which also ends where the server stopped listening between its accept and its first turn:
    uvicorn asks only the connections that it has by then to close, and waits for all."""

    server_state: _State

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close at once what comes too late; who asks sends it again, elsewhere."""
        super().connection_made(transport)
        if self.server_state.closes.is_set():
            self.shutdown()

    def shutdown(self) -> None:
        """Close after the answer that is being made, and say so in it, or at once."""
        super().shutdown()
        cycle: RequestResponseCycle | None = self.cycle  # as uvicorn has it; None before the first request
        if cycle is not None and not cycle.response_started:
            cycle.default_headers = [*cycle.default_headers, CLOSE_HEADER]


class Server(uvicorn.Server):
    """uvicorn, but for its signal handlers: it would raise the signal again before we have closed.

    ``answers`` is set when connections are accepted, ``closes`` when no more are."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = asyncio.Event()
        state = _State()
        self.server_state, self.closes = state, state.closes

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, then tell that connections are accepted; nothing when it is to stop already."""
        if self.should_exit:
            return  # not ``started``, so uvicorn returns without a shutdown
        await super().startup(sockets)
        self.answers.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does; connections made from now on close themselves."""
        self.closes.set()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `stops_on_signals`."""
        yield


def make_server(server: ServerSettings, application: ASGIApp) -> Server:
    config = uvicorn.Config(
        application,
        http=Connection,
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
    return Server(config)


@contextmanager
def stops_on_signals(server: uvicorn.Server) -> Iterator[None]:
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


@contextmanager
def stops_when_orphaned(server: uvicorn.Server, orphaned: int | None) -> Iterator[None]:
    """Stop once nothing holds the other end of the pipe `orphaned`: the supervisor is gone."""
    if orphaned is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(orphaned)
        _log.error("supervisor_gone")
        server.should_exit = True

    poll = select.poll()
    poll.register(orphaned)
    if poll.poll(0):  # gone while this worker opened its services; the loop would look after it listens
        stop()
    else:
        loop.add_reader(orphaned, stop)
    try:
        yield
    finally:
        loop.remove_reader(orphaned)


def shown_address(server: ServerSettings, listener: socket.socket) -> str:
    """The URL that people and programs on this machine use."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if server.has_tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def announce(running: Server, say: Callable[[], None]) -> None:
    """`say` so once the API answers."""
    await running.answers.wait()
    say()


def warn_of_plain_http(server: ServerSettings, listener: socket.socket) -> None:
    """Tokens that others can read on the way are warned of."""
    address = shown_address(server, listener)
    if not server.is_loopback and not server.has_tls:
        _log.warning(
            "plain_http",
            address=address,
            what="tokens and enrolled secrets travel in clear text; who listens on the way can use them",
            remedy="let a proxy speak TLS before it, or set tls_certificate and tls_key",
        )


def say_where(server: ServerSettings, listener: socket.socket) -> None:
    """Where the API is: one line on stdout, which programs may wait for."""
    address = shown_address(server, listener)
    _log.info("listening", address=address)
    print(f"surge backend: {address} (API: {address}/docs)", flush=True)  # noqa: T201
