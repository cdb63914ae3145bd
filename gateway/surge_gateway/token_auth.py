"""A gateway's token that is replaced while the gateway runs: after a 401 the file is read again.

Place in the flow: set on the HTTP client by `process`, under `BackendClient`, which sends the token that was
there at the start. Rule kept: a refused request is sent once more, and only if the file holds another token
than the one that was refused; a file that can't be read changes nothing.
"""

from collections.abc import Callable, Generator

import httpx

UNAUTHENTICATED = 401
_HEADER = "Authorization"


class ReplacedToken(httpx.Auth):
    """`newest` gives the token as it is on disk now, or None."""

    def __init__(self, newest: Callable[[], str | None]) -> None:
        self._newest = newest
        self._replaced: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """httpx's protocol: yields what is to be sent."""
        if _HEADER in request.headers and self._replaced is not None:
            request.headers[_HEADER] = self._replaced
        response = yield request
        if response.status_code != UNAUTHENTICATED:
            return
        token = self._newest()
        if token is None or request.headers.get(_HEADER) in (None, f"Bearer {token}"):
            return
        self._replaced = request.headers[_HEADER] = f"Bearer {token}"
        yield request
