"""The API as an ASGI application, put together from its parts.

Place in the flow: `app` makes the services and calls `make_application`; tests do the same over a real
database file.

Rules kept: no route without a guard starts (`check_guarded`); everything that leaves as an error is problem
details; body bounds and the edge are around everything, unknown paths included.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from surge_backend.api import (
    batches,
    device_reports,
    devices,
    enrolments,
    export,
    gateways,
    handlers,
    ledger,
    log,
    owners,
    pages,
    system,
    telemetry,
)
from surge_backend.api.bounds import JSON_BODY_LEN_MAX, BodyBounds
from surge_backend.api.edge import Edge
from surge_backend.api.guard import SCHEME_BEARER, SCHEME_ENROLMENT
from surge_backend.api.paths import PlainPaths
from surge_backend.api.problems import PROBLEM_SCHEMA
from surge_backend.api.routes import check_guarded
from surge_backend.api.services import Services
from surge_host import __version__
from surge_wire.limits import BATCH_LEN_MAX

OPENAPI_PATH = "/openapi.json"

_DESCRIPTION = """\
Devices report, gateways collect and sign, this backend verifies and pays.

* **Tokens** go into `Authorization: Bearer <token>`. Roles: `admin`, `owner`, `gateway`, `auditor`. Enrolment
  tokens enrol one device or gateway and do nothing else. The log, the tariffs and the statistics are public.
* **Errors** are problem details (RFC 9457) with a stable `code`, and a `remedy` where there is one.
* **Money** is integer micro-credits, **times** are milliseconds since 1970 (`*_ms`), ids are a letter and 16
  base32 characters. Lists go on with `after_id` or `before`, and say their limits.
"""

_TAGS = [
    {"name": "owners and tokens", "description": "Who exists, and what each may show at the door."},
    {"name": "enrolment", "description": "A token made by an owner, spent once by a device or gateway."},
    {"name": "gateways", "description": "What gateways ask, and what their owners see and revoke."},
    {"name": "batches", "description": "Where gateways submit, and what auditors fetch."},
    {"name": "devices", "description": "What is known of each device, and what its owner may do with it."},
    {"name": "telemetry", "description": "What devices measured."},
    {"name": "ledger", "description": "Accounts, transfers and tariffs, in integer micro-credits."},
    {
        "name": "log",
        "description": "The public Merkle log (RFC 9162) of every decision, with COSE receipts (RFC 9942).",
    },
    {"name": "system", "description": "Statistics, health and metrics."},
]

_SECURITY_SCHEMES: dict[str, Any] = {
    SCHEME_BEARER: {
        "type": "http",
        "scheme": "bearer",
        "description": "A token for one of the roles admin, owner, gateway, auditor.",
    },
    SCHEME_ENROLMENT: {
        "type": "http",
        "scheme": "bearer",
        "description": "An enrolment token: good for one device or gateway.",
    },
}


def make_application(services: Services, *, body_timeout_s: float) -> ASGIApp:
    """The whole application. Raises UnguardedRouteError if a route lacks a guard."""
    return _around(make_api(services), services, body_timeout_s)


def make_api(services: Services) -> FastAPI:
    """The routes, without the layers around them."""
    app = FastAPI(
        title="Surge backend",
        version=__version__,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        openapi_url=None,  # served by `system`, behind a guard like everything else
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect is built from the client's Host header, and does no one good
    )
    app.state.services = services
    handlers.install(app, services.retry_after_s)
    parts = (owners, enrolments, gateways, batches, devices, device_reports, telemetry, ledger, log, system)
    for part in parts:
        part.routes.install(app)
    export.make_routes().install(app)
    pages.make_routes().install(app)
    check_guarded(app)
    app.openapi_schema = _describe(app)
    return app


def _around(app: FastAPI, services: Services, body_timeout_s: float) -> ASGIApp:
    bounded = BodyBounds(
        app,
        len_max=JSON_BODY_LEN_MAX,
        len_max_by_path={batches.PATH: BATCH_LEN_MAX},
        body_timeout_s=body_timeout_s,
    )
    return Edge(PlainPaths(bounded), meter=services.metrics)


def _describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description: FastAPI's, with our problems and security schemes, without its own 422."""
    schema = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        tags=app.openapi_tags,
        routes=app.routes,
    )
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas[PROBLEM_SCHEMA["title"]] = PROBLEM_SCHEMA
    components["securitySchemes"] = _SECURITY_SCHEMES
    return schema
