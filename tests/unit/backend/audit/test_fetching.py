"""Downloads over real HTTP: they go on where they broke, come back when asked to, and give up in words."""

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from surge_backend.audit import items
from surge_backend.audit.fetching import ATTEMPTS_MAX, Backend, fetch_frames, get, open_backend
from surge_backend.audit.framing import ExportUnreadable, frame, read_frames
from surge_backend.audit.items import Entry, Header, decode_item
from surge_backend.audit.verifying import verify_export
from surge_host.errors import UserError

from .conftest import Network

TOKEN = "surge_auditor_" + "a" * 43


@dataclass
class Server:
    """Answers with a network's real export, and breaks off as it is told."""

    network: Network
    cuts: list[int] = field(default_factory=list)  # bytes of the body after which the next answers break off
    statuses: list[int] = field(default_factory=list)  # what the next answers say instead
    asked: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        if self.statuses:
            handler.send_response(self.statuses.pop(0))
            handler.send_header("Retry-After", "7")
            handler.send_header("Content-Length", "2")
            handler.end_headers()
            handler.wfile.write(b"{}")
            return
        first = int(parse_qs(urlsplit(handler.path).query).get("from", ["0"])[0])
        if handler.path.startswith("/v1/export"):
            body = self.network.export(first=first)
        else:
            body = self.network.export(items.PUBLIC, first=first, whole=False, part_len=1_000)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)

    def backend(self, token: str | None = TOKEN) -> Backend:
        return open_backend(self.url, token, pause=self.pauses.append)

    def fetch(self, token: str | None = TOKEN) -> bytes:
        return b"".join(frame(item) for item in fetch_frames(self.backend(token)))


@pytest.fixture
def server(network: Network) -> Iterator[Server]:
    served = Server(network)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        served.url = f"http://127.0.0.1:{http.server_address[1]}"
        yield served
        http.shutdown()
        thread.join()


def after_entry(data: bytes, index: int) -> int:
    """The offset of what follows an entry."""
    offsets = [(offset, decode_item(item)) for offset, item in read_frames(io.BytesIO(data))]
    place = next(i for i, (_, item) in enumerate(offsets) if isinstance(item, Entry) and item.index == index)
    return offsets[place + 1][0]


def test_a_download_that_breaks_goes_on_and_is_the_same_export(server: Server, network: Network) -> None:
    whole = network.export()
    server.cuts = [
        after_entry(whole, 3) + 70,  # among the events that follow entry 3, which come again
        200,
        after_entry(network.export(first=4), 6) - 1,
    ]
    fetched = server.fetch()
    assert fetched == whole
    assert verify_export(io.BytesIO(fetched)).sound
    assert [path.rpartition("=")[2] for path in server.asked] == ["0", "4", "4", "6"]
    assert server.pauses


def test_the_public_part_comes_in_pages_and_is_one_export(server: Server, network: Network) -> None:
    fetched = server.fetch(token=None)
    assert fetched == network.export(items.PUBLIC)
    assert len(server.asked) > 2
    assert all(path.startswith("/v1/log/export") for path in server.asked)


def test_a_busy_backend_is_asked_again_when_it_says(server: Server) -> None:
    server.statuses = [503, 429]
    assert verify_export(io.BytesIO(server.fetch())).sound
    assert server.pauses == [7.0, 7.0]


def test_a_backend_that_breaks_off_every_time_is_given_up(server: Server) -> None:
    server.cuts = [200] * 50
    with pytest.raises(UserError, match="broke off"):
        server.fetch()
    assert len(server.asked) == ATTEMPTS_MAX


def test_a_break_within_the_tables_is_not_mended(server: Server, network: Network) -> None:
    server.cuts = [len(network.export()) - 30]
    with pytest.raises(UserError, match="broke off"):
        server.fetch()
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "words"), [(401, "token"), (403, "token"), (404, "no export"), (500, "no export")]
)
def test_refusals_are_for_a_person(server: Server, status: int, words: str) -> None:
    server.statuses = [status]
    with pytest.raises(UserError, match=words):
        server.fetch()
    assert not server.pauses


def test_an_answer_that_is_no_export_is_unreadable(network: Network, server: Server) -> None:
    class Elsewhere(Network):
        def export(self, *_: Any, **__: Any) -> bytes:
            return b"<html>not here</html>"

    server.network = Elsewhere(network.world, [], {})
    with pytest.raises(ExportUnreadable, match="not an export"):
        server.fetch()


def test_a_short_answer_is_bounded(network: Network, server: Server) -> None:
    class Endless(Network):
        def export(self, *_: Any, **__: Any) -> bytes:
            return bytes(200_000)

    server.network = Endless(network.world, [], {})
    with pytest.raises(UserError, match="too long"):
        get(server.backend(), "/v1/log/head")


def test_an_address_is_checked_before_a_token_travels() -> None:
    for url in ("backend.example", "ftp://backend.example", "http://", "https:///x", "http://[::"):
        with pytest.raises(UserError, match="not the address"):
            open_backend(url, TOKEN)
    with pytest.raises(UserError, match="in the clear"):
        open_backend("http://backend.example", TOKEN)
    assert open_backend("http://backend.example", TOKEN, plain_http=True).token == TOKEN
    assert open_backend("http://backend.example/", None).url == "http://backend.example"
    assert open_backend("http://127.0.0.1:8080", TOKEN).url == "http://127.0.0.1:8080"


def test_the_header_of_a_download_is_the_first_ones(server: Server, network: Network) -> None:
    server.cuts = [after_entry(network.export(), 2)]
    found = [decode_item(item) for item in fetch_frames(server.backend())]
    assert sum(isinstance(item, Header) for item in found) == 1
