"""Every error as problem details: `Problem`, validation errors, the framework's own, the store's, and bugs.

Place in the flow: installed on the application by `api.application`. Does not log requests (`api.edge` does).

Rules kept: a validation answer names the place and the rule, never the value (it may be a secret); a bug
answers 500 with a request id and nothing of the exception, whose traceback is in the log under that id.
"""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from surge_backend.api import problems
from surge_backend.api.faults import problem_of
from surge_backend.api.problems import CONTENT_TYPE, Problem, ProblemKind
from surge_backend.errors import BackendError

_log = structlog.get_logger("surge.backend.api")

ERRORS_MAX = 16  # of a request's validation errors, the first so many are named

_BY_STATUS = {
    kind.status: kind
    for kind in (
        problems.MALFORMED_REQUEST,
        problems.UNAUTHENTICATED,
        problems.FORBIDDEN,
        problems.NOT_FOUND,
        problems.METHOD_NOT_ALLOWED,
        problems.NOT_ACCEPTABLE,
        problems.REQUEST_TIMEOUT,
        problems.CONFLICT,
        problems.TOO_LARGE,
        problems.UNSUPPORTED_TYPE,
        problems.INVALID,
        problems.TOO_MANY_REQUESTS,
    )
}


CLIENT_GONE = 499  # as nginx logs it: the client left before there was an answer


def problem_response(problem: Problem) -> JSONResponse:
    """The answer for `problem`."""
    return JSONResponse(problem.body(), problem.kind.status, headers=problem.headers, media_type=CONTENT_TYPE)


def from_http_exception(error: HTTPException) -> Problem:
    """What the framework raises: unknown path, wrong method, unreadable body, and our own BodyRefused."""
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        kind = ProblemKind("http_" + str(error.status_code), error.status_code, "The request failed")
    detail = str(error.detail)
    standard = {"Not Found", "Method Not Allowed"}
    return Problem(kind, "" if detail in standard else detail, headers=error.headers)


def from_validation_error(error: RequestValidationError) -> Problem:
    """Places and rules of a request that doesn't fit; values are left out."""
    found = [
        {"where": ".".join(str(part) for part in item["loc"]), "what": str(item["msg"])}
        for item in error.errors()[:ERRORS_MAX]
    ]
    return Problem(
        problems.INVALID, "; ".join(f"{item['where']}: {item['what']}" for item in found), errors=found
    )


def install(app: FastAPI, retry_after_s: int) -> None:
    """Make `app` answer every expected error as problem details."""

    async def on_known(request: Request, error: Exception) -> Response:
        problem = problem_of(error, retry_after_s)
        if problem is None:
            raise error
        if problem.kind.status >= 500:
            _log.warning("store_fault", path=request.url.path, error=str(error), code=problem.kind.code)
        return problem_response(problem)

    async def on_http_exception(_: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        return problem_response(from_http_exception(error))

    async def on_validation_error(_: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        return problem_response(from_validation_error(error))

    async def on_client_gone(_: Request, _error: Exception) -> Response:
        # In the middle of its body: the network's doing and no defect. Nobody hears the answer, the log does.
        return Response(status_code=CLIENT_GONE)

    async def on_defect(request: Request, _: Exception) -> Response:
        # Starlette answers, then raises the error again: `edge` logs it.
        return problem_response(internal_problem(request.state.request_id))

    app.add_exception_handler(Exception, on_defect)
    for known in (Problem, BackendError, PoolTimeout):
        app.add_exception_handler(known, on_known)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(ClientDisconnect, on_client_gone)
    app.add_exception_handler(RequestValidationError, on_validation_error)


def internal_problem(request_id: str) -> Problem:
    """What a bug answers."""
    facts: dict[str, Any] = {"request_id": request_id}
    return Problem(problems.INTERNAL, **facts)
