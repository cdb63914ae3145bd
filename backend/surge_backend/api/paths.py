"""One spelling for every path, so that a rule in front of the backend and the backend mean the same.

Place in the flow: ASGI middleware between the edge and the rest. Knows no routes.

Rule kept: a path with a control character (the router's patterns would take ``/metrics`` and a line break
for ``/metrics``) or with an encoded slash (the server decodes it before the router looks) is no path of ours:
404, and nobody is asked for a token.
"""

import re

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class PlainPaths:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or raise the 404."""
        if scope["type"] == "http" and not is_plain(scope["path"], scope.get("raw_path") or b""):
            raise HTTPException(404)
        await self._app(scope, receive, send)


def is_plain(path: str, raw_path: bytes) -> bool:
    """Whether a path, decoded and as it was sent, is spelt in the one way."""
    return _CONTROL.search(path) is None and b"%2f" not in raw_path.lower()
