"""The outermost layer of the API: request ids, response headers, one log line and one measurement per
request.

Place in the flow: ASGI middleware around `bounds` and the application. Turns what nobody caught into a 500
with the request id, and the traceback into the log under the same id.

Rules kept: a request's path is logged, its query string and headers never; measurements carry the route's
template, not the path, so their number is bounded; pages may load only what this server serves
(Content-Security-Policy).
"""

import secrets
import time
from typing import Protocol

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from surge_backend.api.handlers import (
    CLIENT_GONE,
    from_http_exception,
    internal_problem,
    problem_response,
)

REQUEST_ID_HEADER = "x-request-id"
# Polled by monitoring and by every gateway: logged at debug level
_QUIET_PATHS = frozenset(
    (
        "/healthz",
        "/metrics",
        "/v1/stats",
        "/v1/log/head",
        "/v1/log/consistency",
        "/v1/gateways/self",
        "/v1/gateways/self/devices",
        "/v1/gateways/self/commands",
    )
)

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}

_log = structlog.get_logger("surge.backend.api")


class RequestMeter(Protocol):
    """Where measurements go (`metrics.Metrics`)."""

    def request(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one request."""


class Edge:
    """The middleware. `meter` counts every request once."""

    def __init__(self, app: ASGIApp, *, meter: RequestMeter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whatever happens inside."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        started_s = time.perf_counter()
        status = 0
        complete = False
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_headers)
            except HTTPException as error:
                if status:
                    raise
                await problem_response(from_http_exception(error))(scope, receive, send_with_headers)
            except Exception as error:
                if isinstance(error.__cause__, ClientDisconnect):
                    # Starlette's way to say that the client left in the middle of the answer: no defect
                    status = CLIENT_GONE
                else:
                    _log.exception("request_failed", method=scope["method"], path=scope["path"])
                if not status:
                    await problem_response(internal_problem(request_id))(scope, receive, send_with_headers)
                elif not complete and status != CLIENT_GONE:
                    raise  # the answer has begun: all that is left is to cut it off
            duration_s = time.perf_counter() - started_s
            route = getattr(scope.get("route"), "path", "unmatched")
            self._meter.request(scope["method"], route, status, duration_s)
            log = _log.debug if scope["path"] in _QUIET_PATHS and status < 500 else _log.info
            log(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round(duration_s * 1000, 1),
                client=scope["client"][0] if scope.get("client") else None,
            )
