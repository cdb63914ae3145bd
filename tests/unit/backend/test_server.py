"""How the server starts and stops: who is to stop serves nobody, and nobody keeps it running."""

import asyncio
import os
import socket
from collections.abc import Iterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from surge_backend.server import listening_socket, make_server, stops_when_orphaned
from surge_backend.settings import ServerSettings
from surge_backend.workers import WorkerPlace

SETTINGS = ServerSettings(port=0, shutdown_timeout_s=300, keep_alive_s=300)  # no test waits for these
REQUEST = b"GET / HTTP/1.1\r\nHost: surge\r\n\r\n"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listening_socket(SETTINGS) as opened:
        yield opened


class Application:
    """Answers at once, but for ``/slow``, which waits for `release`."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            self.began.set()
            await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})


async def test_no_connection_keeps_a_stopping_server(
    listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """What was begun is answered and its connection closed; a connection that was accepted but not yet made
    when the server closed its listener, and that nothing told to close, is closed when it is made."""
    application = Application()
    server = make_server(SETTINGS, application)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await server.answers.wait()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(timeout=None) as client:
        assert "connection" not in (await client.get(url)).headers
        slow = asyncio.create_task(client.get(url + "/slow"))
        await application.began.wait()
        server.should_exit = True
        await server.closes.wait()

        theirs, ours = socket.socketpair()  # what the loop had accepted, and hands over only now
        reader, writer = await asyncio.open_connection(sock=theirs)
        writer.write(REQUEST)
        protocol = server.config.http_protocol_class
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: protocol(config=server.config, server_state=server.server_state, app_state={}),  # type: ignore[call-arg]
            ours,
        )
        try:
            assert await reader.read(1) == b""
        except ConnectionResetError:
            pass  # the same: it was closed before the request was read
        writer.close()

        application.release.set()
        answer = await slow
        assert (answer.text, answer.headers["connection"]) == ("done", "close")
        await serving
    assert not server.server_state.connections
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_worker_whose_supervisor_went_while_it_started_never_serves(listener: socket.socket) -> None:
    orphaned, supervisor = os.pipe()
    os.close(supervisor)
    try:
        server = make_server(SETTINGS, Application())
        with capture_logs() as logs, stops_when_orphaned(server, orphaned):
            await server.serve(sockets=[listener])
    finally:
        os.close(orphaned)
    assert [line["event"] for line in logs] == ["supervisor_gone"]
    assert not server.answers.is_set()
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0


def test_a_worker_may_tell_a_supervisor_that_is_gone() -> None:
    """It stops because its supervisor is gone, not because it could not be told."""
    reads, writes = os.pipe()
    os.close(reads)
    try:
        WorkerPlace(0, writes, -1).say_ready()
    finally:
        os.close(writes)
