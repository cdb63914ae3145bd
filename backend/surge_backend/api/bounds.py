"""Bounds on request bodies, before they are in memory: size by path, and time.

Place in the flow: ASGI middleware around the whole API. Reads nothing of the body itself; whoever reads it
does so through here, and is stopped at the bound.

Rules kept: a declared Content-Length past the bound is refused before a byte of the body is read; a body
without one is counted as it comes; a body must be complete within `body_timeout_s`; the connection is closed
after a refusal, so the rest of the body isn't read either.
"""

import asyncio
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from surge_backend.api.problems import REQUEST_TIMEOUT, TOO_LARGE

JSON_BODY_LEN_MAX = 64 * 1024


class BodyRefused(HTTPException):
    """A body past a bound. An HTTPException, because FastAPI lets only that through while it reads a body."""


def _too_large(limit: int) -> BodyRefused:
    return BodyRefused(
        TOO_LARGE.status, f"the body may have {limit} bytes at most", headers={"Connection": "close"}
    )


class BodyBounds:
    """`len_max_by_path` holds the paths that may take more (or less) than `len_max`."""

    def __init__(
        self, app: ASGIApp, *, len_max: int, len_max_by_path: Mapping[str, int], body_timeout_s: float
    ) -> None:
        self._app = app
        self._len_max = len_max
        self._len_max_by_path = dict(len_max_by_path)
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a `receive` that keeps the bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._len_max_by_path.get(scope["path"], self._len_max)
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isascii() or not declared.isdigit() or int(declared) > limit:
            raise _too_large(limit)
        await self._app(scope, self._bounded(receive, limit), send)

    def _bounded(self, receive: Receive, limit: int) -> Receive:
        taken = 0
        complete = False
        deadline_s = asyncio.get_running_loop().time() + self._body_timeout_s

        async def bounded() -> Message:
            nonlocal taken, complete
            if complete:  # the application waits for the client to go away: that may take its time
                return await receive()
            try:
                async with asyncio.timeout_at(deadline_s):
                    message = await receive()
            except TimeoutError:
                raise BodyRefused(
                    REQUEST_TIMEOUT.status,
                    f"the body was not complete after {self._body_timeout_s:g} s",
                    headers={"Connection": "close"},
                ) from None
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if taken > limit:
                    raise _too_large(limit)
            return message

        return bounded
