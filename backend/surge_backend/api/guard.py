"""Who may: the one dependency that stands before every route.

Place in the flow: `Routes` puts a `Guard` before each endpoint; the endpoint gets the `Principal` or the
enrolment token's hash that the guard found. Which rows a principal sees is the resource modules' part (an
owner sees its own).

Rules kept: a route is public, for bearer roles, or for an enrolment token, and says so itself; what can be
asked without a valid token is rate limited per client address; a failed token costs from a bucket of its own,
and a client whose bucket is empty isn't looked up any more; unknown, expired and revoked tokens get the same
answer.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from fastapi import Depends, Request

from surge_backend.api import problems
from surge_backend.api.problems import Problem, retry_later
from surge_backend.api.rates import client_key
from surge_backend.api.services import Services, services_of
from surge_backend.registry.token_rows import find_principal
from surge_backend.registry.tokens import (
    Principal,
    Role,
    hash_token,
    is_bearer_token,
    is_enrolment_token,
)

SCHEME_BEARER = "bearer"
SCHEME_ENROLMENT = "enrolment"


class Door(Enum):
    """The three ways in."""

    PUBLIC = "public"
    BEARER = "bearer"
    ENROLMENT = "enrolment"


@dataclass(frozen=True)
class Access:
    """Who may use a route: everyone, certain roles, or who holds an enrolment token."""

    door: Door
    roles: frozenset[Role] = frozenset()

    @property
    def schemes(self) -> tuple[str, ...]:
        """The OpenAPI security schemes."""
        if self.door is Door.PUBLIC:
            return ()
        return (SCHEME_BEARER,) if self.door is Door.BEARER else (SCHEME_ENROLMENT,)


PUBLIC = Access(Door.PUBLIC)
ENROLMENT = Access(Door.ENROLMENT)


def bearer(*roles: Role) -> Access:
    """Access for tokens of `roles`."""
    return Access(Door.BEARER, frozenset(roles))


class Guard:
    """The dependency: passes or raises Problem. One per route."""

    def __init__(self, access: Access) -> None:
        self.access = access

    def __call__(self, request: Request) -> None:
        """Let the request through, with what was found in `request.state`, or raise Problem."""
        services = services_of(request)
        client = client_key(request.client.host if request.client else "")
        now_s = services.monotonic_s()
        if self.access.door is Door.PUBLIC:
            _check_wait(services.rates.public.take(client, now_s))
            return
        if self.access.door is Door.ENROLMENT:
            _check_wait(services.rates.enrolment.take(client, now_s))
        _check_wait(services.rates.failed_tokens.wait_s(client, now_s))
        try:
            if self.access.door is Door.ENROLMENT:
                request.state.enrolment_hash = _enrolment_hash(request, services)
            else:
                request.state.principal = self._principal(request, services)
        except Problem as problem:
            if problem.kind is problems.UNAUTHENTICATED:
                services.rates.failed_tokens.take(client, now_s)
            raise

    def _principal(self, request: Request, services: Services) -> Principal:
        token = _token(request)
        if is_enrolment_token(token):
            raise Problem(problems.FORBIDDEN, "an enrolment token enrols, and nothing else")
        if not is_bearer_token(token):
            raise unauthenticated()
        principal = _find(services, token)
        if principal.role not in self.access.roles:
            allowed = ", ".join(sorted(role.value for role in self.access.roles))
            raise Problem(
                problems.FORBIDDEN,
                f"this token is for the role {principal.role.value}",
                remedy=f"use a token for the role {allowed}",
            )
        return principal


def _check_wait(wait_s: int) -> None:
    if wait_s:
        raise retry_later(problems.TOO_MANY_REQUESTS, "too many requests from this address", wait_s)


def unauthenticated() -> Problem:
    """No token, or one that is unknown, expired or revoked: from outside they look the same."""
    return Problem(problems.UNAUTHENTICATED, headers={"WWW-Authenticate": 'Bearer realm="surge"'})


def _token(request: Request) -> str:
    """The text after `Bearer`; a request with two Authorization headers is refused, not guessed at."""
    values = request.headers.getlist("authorization")
    if len(values) != 1:
        raise unauthenticated()
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated()
    return token.strip()


def _find(services: Services, token: str) -> Principal:
    principal = find_principal(services.database, hash_token(token), services.now_ms())
    if principal is None:
        raise unauthenticated()
    return principal


def _enrolment_hash(request: Request, services: Services) -> bytes:
    """Whether the hash is known, fresh and unused is decided where it is spent, in one transaction."""
    token = _token(request)
    if is_bearer_token(token):
        role = _find(services, token).role.value
        raise Problem(problems.FORBIDDEN, f"this needs an enrolment token, not one for the role {role}")
    if not is_enrolment_token(token):
        raise unauthenticated()
    return hash_token(token)


def _current_principal(request: Request) -> Principal:
    principal = request.state.principal
    if not isinstance(principal, Principal):
        raise TypeError("route is not behind a bearer guard")
    return principal


def _current_enrolment(request: Request) -> bytes:
    enrolment_hash = request.state.enrolment_hash
    if not isinstance(enrolment_hash, bytes):
        raise TypeError("route is not behind an enrolment guard")
    return enrolment_hash


CurrentPrincipal = Annotated[Principal, Depends(_current_principal)]
CurrentEnrolment = Annotated[bytes, Depends(_current_enrolment)]
