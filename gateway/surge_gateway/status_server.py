"""A small HTTP server for `/healthz`, `/metrics` and `/status`: GET only, one request per connection.

Place in the flow: beside everything, off unless set. Has no password and changes nothing: it belongs on the
loopback interface. Rules kept: a request's head is bounded in bytes and time, connections are bounded, and
nothing that a client sends is echoed.
"""

import asyncio
import errno
import json
from collections.abc import Callable
from pathlib import Path

import structlog

from surge_gateway.files import Files, remove_if_there, write_atomically
from surge_gateway.metrics import CONTENT_TYPE, render_metrics
from surge_gateway.status import Status
from surge_host.errors import UserError

log = structlog.get_logger()

HEAD_LEN_MAX = 8 * 1024  # a longer request is closed
HEAD_TIMEOUT_S = 5.0  # a slower one too
CONNECTIONS_MAX = 32  # further ones are closed at once


def write_url(files: Files, path: Path, url: str) -> None:
    """Say in a file where the server listens; without room for it, in the log alone."""
    try:
        remove_if_there(files, path)  # the last run's leads nowhere
        write_atomically(files, path, url.encode() + b"\n")
    except OSError as error:
        log.error("status_url_not_written", url=url, error=error.strerror, remedy="free disk space")


class StatusServer:
    """`url` once it listens."""

    def __init__(self, status: Status, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections = 0
        self._pages: dict[bytes, tuple[str, Callable[[], bytes]]] = {
            b"/healthz": ("application/json", lambda: _json(status.health())),
            b"/status": ("application/json", lambda: _json(status.snapshot())),
            b"/metrics": (CONTENT_TYPE, lambda: render_metrics(status.snapshot)),
        }
        self.url = ""

    async def start(self) -> None:
        """Listen. Raises UserError where the address can't be had."""
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=HEAD_LEN_MAX)
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            raise UserError(
                f"port {self._port} is in use" if in_use else f"can't listen: {error.strerror}",
                f"[status] host = {self._host}, port = {self._port}",
                "set another [status] port, or 0 for any free one",
            ) from error
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        log.info("status_listening", url=self.url)

    async def stop(self) -> None:
        """Close."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= CONNECTIONS_MAX:
                async with asyncio.timeout(HEAD_TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head))
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # not a client that wanted an answer
        finally:
            self._connections -= 1
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or words[0] != b"GET":
            return _response("405 Method Not Allowed", "text/plain", b"GET only\n", "Allow: GET\r\n")
        page = self._pages.get(words[1].partition(b"?")[0])
        if page is None:
            return _response("404 Not Found", "text/plain", b"/healthz /metrics /status\n")
        kind, render = page
        return _response("200 OK", kind, render())


def _json(document: object) -> bytes:
    return (json.dumps(document) + "\n").encode()


def _response(status: str, kind: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
