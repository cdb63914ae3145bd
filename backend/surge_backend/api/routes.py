"""Routes that can't be declared without saying who may use them.

Place in the flow: every resource module makes one `Routes` and declares its paths on it; `api.application`
installs them. FastAPI's own routers are not used: a path could be added to them without a guard.

Rules kept: `access` has no default (deny by default); `check_guarded` refuses to start an application that
has any route without a guard, however it got there; a route's error answers are in its OpenAPI description.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from surge_backend.api import problems
from surge_backend.api.guard import Access, Guard
from surge_backend.api.problems import ProblemKind, describe

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class UnguardedRouteError(Exception):
    """A route without a guard: a mistake in the program, found when it starts."""


@dataclass(frozen=True)
class _Declared:
    method: str
    path: str
    access: Access
    endpoint: Callable[..., Any]
    problems: tuple[ProblemKind, ...]
    options: dict[str, Any]


@dataclass
class Routes:
    """The routes of one resource; `tag` groups them in the API's page."""

    tag: str
    declared: list[_Declared] = field(default_factory=list)

    def _declare(
        self, method: str, path: str, access: Access, kinds: Iterable[ProblemKind], options: dict[str, Any]
    ) -> Callable[[Endpoint], Endpoint]:
        def declare(endpoint: Endpoint) -> Endpoint:
            self.declared.append(_Declared(method, path, access, endpoint, tuple(kinds), options))
            return endpoint

        return declare

    def get(
        self, path: str, *, access: Access, problems: Iterable[ProblemKind] = (), **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        """Declare `GET path`."""
        return self._declare("GET", path, access, problems, options)

    def post(
        self, path: str, *, access: Access, problems: Iterable[ProblemKind] = (), **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        """Declare `POST path`."""
        return self._declare("POST", path, access, problems, options)

    def delete(
        self, path: str, *, access: Access, problems: Iterable[ProblemKind] = (), **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        """Declare `DELETE path`."""
        return self._declare("DELETE", path, access, problems, options)

    def install(self, app: FastAPI) -> None:
        """Add the declared routes to `app`, each behind its guard."""
        for route in self.declared:
            security: list[dict[str, list[str]]] = [{scheme: []} for scheme in route.access.schemes]
            options = {"tags": [self.tag], "openapi_extra": {"security": security}} | route.options
            responses = describe(_problems_of(route)) | options.pop("responses", {})
            app.add_api_route(
                route.path,
                route.endpoint,
                methods=[route.method],
                dependencies=[Depends(Guard(route.access))],
                responses=responses,
                **options,
            )


def _problems_of(route: _Declared) -> tuple[ProblemKind, ...]:
    common: tuple[ProblemKind, ...] = (
        problems.TOO_MANY_REQUESTS,
        problems.INVALID,
        problems.INTERNAL,
        problems.STORE_BUSY,
        problems.STORE_FULL,
    )
    if route.access.schemes:
        common += (problems.UNAUTHENTICATED, problems.FORBIDDEN)
    if route.method == "POST":
        common += (problems.MALFORMED_REQUEST, problems.REQUEST_TIMEOUT, problems.TOO_LARGE)
    return common + tuple(kind for kind in route.problems if kind not in common)


def guard_of(route: APIRoute) -> Guard | None:
    """The guard that stands first among a route's dependencies, if one does."""
    for dependency in route.dependencies:
        if isinstance(dependency.dependency, Guard):
            return dependency.dependency
    return None


def check_guarded(app: FastAPI, paths_without_guard: frozenset[str] = frozenset()) -> None:
    """Raise UnguardedRouteError if `app` has a route without a guard, save those named."""
    for route in app.router.routes:
        path = getattr(route, "path", repr(route))
        if isinstance(route, APIRoute) and guard_of(route) is not None:
            continue
        if path not in paths_without_guard:
            raise UnguardedRouteError(f"{path} has no guard")
