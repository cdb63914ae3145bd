"""Owners and tokens: who exists, and what each may show at the door.

Place in the flow: an admin makes owners; admin and owners make, list and revoke tokens. A token's text is in
the answer to its making and nowhere else.
"""

from typing import Annotated

from fastapi import Query
from pydantic import Field

from surge_backend.api import problems
from surge_backend.api.fields import PAGE_DEFAULT, Model, Name, OwnerId, PageLimit, RequestModel, TimeMs
from surge_backend.api.guard import CurrentPrincipal, bearer
from surge_backend.api.problems import Problem
from surge_backend.api.routes import Routes
from surge_backend.api.services import ServicesDep
from surge_backend.registry.gateway_rows import get_gateway
from surge_backend.registry.owners import create_owner, list_owners, require_owner
from surge_backend.registry.token_rows import issue_token, list_tokens, revoke_token
from surge_backend.registry.tokens import TOKEN_LIFE_S_MAX, Principal, Role
from surge_wire.ids import GATEWAY, is_id

routes = Routes("owners and tokens")


class NewOwner(RequestModel):
    """An owner to be made."""

    name: Name


class CreatedOwner(Model):
    """A new owner and its first token, which is shown only here."""

    owner_id: OwnerId
    token: str
    token_id: str


class Owner(Model):
    """An owner."""

    owner_id: OwnerId
    name: str
    created_ms: TimeMs


class NewToken(RequestModel):
    """A token to be made: `subject_id` is the owner or gateway it stands for, none for admin and auditor."""

    role: Annotated[Role, Field(strict=False)]  # else only Python's own enumeration would do, and no text
    subject_id: Annotated[str, Field(max_length=17)] = ""
    label: Name
    expires_in_s: Annotated[int | None, Field(ge=1, le=TOKEN_LIFE_S_MAX)] = None


class CreatedToken(Model):
    """A new token, shown only here."""

    token: str
    token_id: str
    expires_ms: TimeMs | None


class Token(Model):
    """What is known of a token: never its text."""

    token_id: str
    role: Role
    subject_id: str
    label: str
    created_ms: TimeMs
    expires_ms: TimeMs | None
    revoked_ms: TimeMs | None


@routes.post("/v1/owners", access=bearer(Role.ADMIN), status_code=201, summary="Make an owner")
def post_owner(body: NewOwner, services: ServicesDep) -> CreatedOwner:
    """The owner's first token comes with it, once."""
    now_ms = services.now_ms()
    with services.database.write() as connection:
        owner_id = create_owner(connection, body.name, now_ms)
        issued = issue_token(connection, Role.OWNER, owner_id, "first", now_ms)
    return CreatedOwner(owner_id=owner_id, token=issued.token, token_id=issued.token_id)


@routes.get("/v1/owners", access=bearer(Role.ADMIN), summary="List owners")
def get_owners(
    services: ServicesDep,
    after_id: Annotated[str, Query(max_length=17)] = "",
    limit: PageLimit = PAGE_DEFAULT,
) -> list[Owner]:
    """In the order of their ids."""
    with services.database.read() as connection:
        rows = list_owners(connection, after_id, limit)
    return [Owner(owner_id=row["id"], name=row["name"], created_ms=row["created_ms"]) for row in rows]


def _forbidden_role() -> Problem:
    return Problem(
        problems.FORBIDDEN,
        "an owner makes tokens for itself and its own gateways",
        remedy="ask an admin, or leave subject_id to your own id",
    )


def _check_subject(services: ServicesDep, principal: Principal, body: NewToken) -> str:
    """The subject that the new token stands for, if `principal` may make one for it."""
    is_admin = principal.role is Role.ADMIN
    if body.role in (Role.ADMIN, Role.AUDITOR):
        if not is_admin:
            raise _forbidden_role()
        if body.subject_id:
            raise Problem(problems.INVALID, f"a token for the role {body.role.value} has no subject_id")
        return ""
    subject_id = body.subject_id or ("" if is_admin else principal.subject_id)
    with services.database.read() as connection:
        if body.role is Role.GATEWAY:
            if not is_id(GATEWAY, subject_id):
                raise Problem(problems.INVALID, "subject_id: a gateway's id is needed")
            gateway = get_gateway(connection, subject_id, None if is_admin else principal.subject_id)
            if gateway["status"] != "active":
                raise Problem(problems.CONFLICT, f"gateway {subject_id} is {gateway['status']}")
        elif is_admin:
            require_owner(connection, subject_id)
        elif subject_id != principal.subject_id:
            raise _forbidden_role()
    return subject_id


@routes.post(
    "/v1/tokens",
    access=bearer(Role.ADMIN, Role.OWNER),
    status_code=201,
    problems=(problems.NOT_FOUND, problems.LIMIT_REACHED, problems.CONFLICT),
    summary="Make a token",
)
def post_token(body: NewToken, principal: CurrentPrincipal, services: ServicesDep) -> CreatedToken:
    """An admin for anyone; an owner for itself and its own gateways."""
    subject_id = _check_subject(services, principal, body)
    now_ms = services.now_ms()
    expires_ms = None if body.expires_in_s is None else now_ms + body.expires_in_s * 1000
    with services.database.write() as connection:
        issued = issue_token(connection, body.role, subject_id, body.label, now_ms, expires_ms)
    return CreatedToken(token=issued.token, token_id=issued.token_id, expires_ms=issued.expires_ms)


@routes.get("/v1/tokens", access=bearer(Role.ADMIN, Role.OWNER), summary="List tokens")
def get_tokens(principal: CurrentPrincipal, services: ServicesDep) -> list[Token]:
    """Newest first; an owner sees its own and its gateways'."""
    with services.database.read() as connection:
        rows = list_tokens(connection, principal)
    return [Token(token_id=row["id"], **{k: v for k, v in row.items() if k != "id"}) for row in rows]


@routes.delete(
    "/v1/tokens/{token_id}",
    access=bearer(Role.ADMIN, Role.OWNER),
    status_code=204,
    problems=(problems.NOT_FOUND,),
    summary="Revoke a token",
)
def delete_token(token_id: str, principal: CurrentPrincipal, services: ServicesDep) -> None:
    """From now on the token is as if unknown. Revoking it again changes nothing."""
    with services.database.write() as connection:
        revoke_token(connection, principal, token_id, services.now_ms())
