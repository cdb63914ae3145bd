"""An export over HTTP, frame by frame, going on by itself where the connection broke.

Place in the flow: ``surge export URL`` writes the frames to a file, ``surge verify URL`` verifies them as
they come. With a token the whole export is fetched, without one the public part, page by page.

Does not: believe anything: what comes is bounded here and judged by ``verifying``. Rules it keeps: events
that came after the last entry are handed on only once the next entry is there, so that the same ones, sent
again after a break, aren't handed on twice; a break within the tables at the end can't be mended and says
so; a token travels by HTTPS, or to this machine.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

from surge_backend.audit import items
from surge_backend.audit.framing import ExportUnreadable, read_frames
from surge_backend.audit.items import END, ENTRY, EVENT, HEADER
from surge_host.addresses import is_this_machine
from surge_host.errors import UserError
from surge_wire.errors import DecodeError

TIMEOUT_S: Final = 30.0  # without a byte; tables of a large backend take their time
ATTEMPTS_MAX: Final = 6  # in a row, without an entry more
PAUSE_MAX_S: Final = 30.0
ANSWER_LEN_MAX: Final = 64 * 1024  # of an answer that is no export
PROBLEM_LEN_MAX: Final = 300
_PASSING: Final = (429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Backend:
    """Where to ask, and with which token; ``pause`` is how to wait."""

    url: str
    token: str | None = None
    pause: Callable[[float], None] = time.sleep


class _Interrupted(Exception):
    """The connection broke, or the backend asks to come back later."""

    def __init__(self, why: str, pause_s: float | None = None) -> None:
        super().__init__(why)
        self.pause_s = pause_s


def open_backend(
    url: str, token: str | None, *, plain_http: bool = False, pause: Callable[[float], None] = time.sleep
) -> Backend:
    """Check an address that a person gave. Raises UserError."""
    try:
        parsed = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError("not the address of a backend", url, "write it as https://backend.example")
    if token and parsed.scheme == "http" and not plain_http and not is_this_machine(parsed.host):
        remedy = "use https://, or --plain-http if the network in between is trusted"
        raise UserError("the token would travel in the clear", url, remedy)
    return Backend(str(parsed), token, pause)


def fetch_frames(backend: Backend) -> Iterator[bytes]:
    """The items of an export, without their frames. Raises UserError."""
    with _client(backend) as client:
        fetch = _Fetch(backend, client)
        attempts = 0
        while not fetch.complete:
            before = fetch.next_index
            try:
                yield from fetch.more()
                attempts = 0
            except _Interrupted as error:
                attempts = 1 if fetch.next_index > before else attempts + 1
                if attempts == ATTEMPTS_MAX or fetch.in_tables:
                    raise UserError(
                        f"the export broke off: {error}", backend.url, "check the network, then start again"
                    ) from error
                backend.pause(min(PAUSE_MAX_S, error.pause_s or 2.0 ** (attempts - 1)))


def get(backend: Backend, path: str, **parameters: Any) -> bytes:
    """A short public answer. Raises UserError."""
    with _client(backend) as client:
        try:
            with client.stream("GET", backend.url + path, params=parameters) as answer:
                body = answer.iter_bytes(ANSWER_LEN_MAX)
                if answer.status_code != 200:
                    raise _refused(backend, answer)
                return b"".join(_bounded(body))
        except httpx.HTTPError as error:
            raise _unreachable(backend, error) from None


def _bounded(body: Iterator[bytes]) -> Iterator[bytes]:
    left = ANSWER_LEN_MAX
    for part in body:
        left -= len(part)
        if left < 0:
            raise UserError("the backend's answer is too long", "its log", "check that it is a Surge backend")
        yield part


class _Fetch:
    """Where a download stands."""

    def __init__(self, backend: Backend, client: httpx.Client) -> None:
        self._backend = backend
        self._client = client
        self._begun = False
        self.next_index = 0
        self.complete = False
        self.in_tables = False

    def more(self) -> Iterator[bytes]:
        """One request's items, so far as they are new. Raises _Interrupted, UserError."""
        path = "/v1/export" if self._backend.token else "/v1/log/export"
        parameters = {"from": self.next_index}
        try:
            with self._client.stream("GET", self._backend.url + path, params=parameters) as answer:
                if answer.status_code in _PASSING:
                    raise _Interrupted(f"it said {answer.status_code}", _retry_after_s(answer))
                if answer.status_code != 200:
                    raise _refused(self._backend, answer)
                yield from self._items(_Body(answer))
        except httpx.HTTPError as error:
            if not self._begun:
                raise _unreachable(self._backend, error) from None
            raise _Interrupted(str(error) or type(error).__name__) from error

    def _items(self, body: "_Body") -> Iterator[bytes]:
        waiting: list[bytes] = []  # events, until the entry that they stand before
        for offset, data in _frames(body):
            kind = _kind(data, offset)
            if kind == HEADER:
                if not self._begun:
                    self._begun = True
                    yield data
            elif kind == EVENT and not self.in_tables:
                waiting.append(data)
            elif kind == ENTRY:
                yield from waiting
                waiting.clear()
                self.next_index += 1
                yield data
            elif kind == END and self._goes_on(data):
                return
            else:
                self.in_tables = True
                yield from waiting
                waiting.clear()
                yield data
                if kind == END:
                    self.complete = True
                    return
        raise _Interrupted("it ended too early")

    def _goes_on(self, data: bytes) -> bool:
        """Whether the end is that of a page, with more to ask for."""
        try:
            end = items.decode_item(data)
        except DecodeError:
            return False  # whoever verifies it will say what is wrong
        more = isinstance(end, items.End) and self.next_index == end.next_index < end.tree_size
        return more and not self.in_tables


class _Body:
    """An answer's body, as frames are read."""

    def __init__(self, answer: httpx.Response) -> None:
        self._chunks = answer.iter_bytes()
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, none at the end only."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


def _frames(body: _Body) -> Iterator[tuple[int, bytes]]:
    try:
        yield from read_frames(body)
    except ExportUnreadable as error:
        if "cut short" in error.what:
            raise _Interrupted("it ended too early") from error
        raise


def _kind(data: bytes, offset: int) -> int:
    """An item's kind, without reading the item."""
    # an array of fewer than 24 fields, the first of which is a small integer
    if len(data) > 1 and 0x80 < data[0] < 0x98 and data[1] < 24:
        return data[1]
    raise ExportUnreadable("not an export of Surge, or damaged", f"item at byte {offset}")


@contextmanager
def _client(backend: Backend) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {backend.token}"} if backend.token else {}
    # a proxy may carry what it can't read, and nothing else
    trust_env = backend.url.startswith("https:")
    with httpx.Client(headers=headers, timeout=TIMEOUT_S, trust_env=trust_env) as client:
        yield client


def _retry_after_s(answer: httpx.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 5 else None


def _unreachable(backend: Backend, error: httpx.HTTPError) -> UserError:
    said = str(error) or type(error).__name__
    return UserError("the backend doesn't answer", backend.url, f"check address and network ({said})")


def _refused(backend: Backend, answer: httpx.Response) -> UserError:
    if answer.status_code in (401, 403):
        return UserError(
            f"the backend refuses the token ({answer.status_code})",
            backend.url,
            "give one for the role auditor or admin, or leave it out to check the public part",
        )
    text = b"".join(_bounded(answer.iter_bytes(ANSWER_LEN_MAX))).decode("utf-8", "replace")
    said = "".join(char if char.isprintable() else " " for char in text)[:PROBLEM_LEN_MAX]
    return UserError(
        f"the backend gives no export: it said {answer.status_code}",
        backend.url,
        f"check that it is a Surge backend of this version ({said})",
    )
