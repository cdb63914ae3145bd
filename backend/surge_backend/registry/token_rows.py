"""The tokens table: issue, look up, revoke.

Place in the flow: the API's guard looks up; owners, gateways, tokens resources and `surge backend token`
issue and revoke. Every function but `find_principal` runs in the caller's transaction.

Rules kept: as `registry.tokens` says. Revoking twice is harmless and keeps the first time.
"""

import secrets
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, insert, or_, select, update

from surge_backend.db.engine import Database
from surge_backend.db.schema import gateways, tokens
from surge_backend.registry.errors import LimitReached, UnknownSubject
from surge_backend.registry.tokens import Principal, Role, hash_token, make_bearer_token

TOKENS_PER_SUBJECT_MAX = 100  # live ones; issuing more is refused until one is revoked or expires
TOKENS_LISTED_MAX = 1_000
_TOKEN_ID_RANDOM_LEN = 8


@dataclass(frozen=True)
class IssuedToken:
    """A fresh token: `token` is shown once and not stored."""

    token_id: str
    token: str
    expires_ms: int | None

    def __repr__(self) -> str:
        return f"IssuedToken({self.token_id})"


def issue_token(
    connection: Connection,
    role: Role,
    subject_id: str,
    label: str,
    now_ms: int,
    expires_ms: int | None = None,
) -> IssuedToken:
    """Make a token for `subject_id` ("" for admin and auditor). Raises LimitReached."""
    live = select(tokens.c.id).where(
        tokens.c.role == role.value, tokens.c.subject_id == subject_id, _live(now_ms)
    )
    if len(connection.execute(live.limit(TOKENS_PER_SUBJECT_MAX)).all()) >= TOKENS_PER_SUBJECT_MAX:
        raise LimitReached(f"{TOKENS_PER_SUBJECT_MAX} tokens of this subject are live: revoke one first")
    token = make_bearer_token(role)
    token_id = "t" + secrets.token_hex(_TOKEN_ID_RANDOM_LEN)
    connection.execute(
        insert(tokens).values(
            id=token_id,
            hash=hash_token(token),
            role=role.value,
            subject_id=subject_id,
            label=label,
            created_ms=now_ms,
            expires_ms=expires_ms,
            revoked_ms=None,
        )
    )
    return IssuedToken(token_id, token, expires_ms)


def _live(now_ms: int) -> ColumnElement[bool]:
    return and_(
        tokens.c.revoked_ms.is_(None), or_(tokens.c.expires_ms.is_(None), tokens.c.expires_ms > now_ms)
    )


def find_principal(database: Database, token_hash: bytes, now_ms: int) -> Principal | None:
    """Who a token stands for, if it is live; one answer for unknown, expired and revoked."""
    with database.read() as connection:
        row = connection.execute(
            select(tokens.c.id, tokens.c.role, tokens.c.subject_id).where(
                tokens.c.hash == token_hash, _live(now_ms)
            )
        ).one_or_none()
    if row is None:
        return None
    return Principal(Role(row.role), row.subject_id or "", row.id)


def _visible_to(principal: Principal) -> ColumnElement[bool]:
    """Which token rows `principal` may see and revoke: an owner its own and its gateways'."""
    if principal.role is Role.ADMIN:
        return tokens.c.id.is_not(None)
    own_gateways = select(gateways.c.id).where(gateways.c.owner_id == principal.subject_id)
    return or_(
        and_(tokens.c.role == Role.OWNER.value, tokens.c.subject_id == principal.subject_id),
        and_(tokens.c.role == Role.GATEWAY.value, tokens.c.subject_id.in_(own_gateways)),
    )


def list_tokens(connection: Connection, principal: Principal) -> list[RowMapping]:
    """The tokens that `principal` may see, newest first, without hashes."""
    query = (
        select(
            tokens.c.id,
            tokens.c.role,
            tokens.c.subject_id,
            tokens.c.label,
            tokens.c.created_ms,
            tokens.c.expires_ms,
            tokens.c.revoked_ms,
        )
        .where(_visible_to(principal))
        .order_by(tokens.c.created_ms.desc(), tokens.c.id)
        .limit(TOKENS_LISTED_MAX)
    )
    return list(connection.execute(query).mappings())


def revoke_token(connection: Connection, principal: Principal, token_id: str, now_ms: int) -> None:
    """Revoke one token. Raises UnknownSubject if there is none that `principal` may see."""
    found = connection.execute(
        select(tokens.c.id).where(tokens.c.id == token_id, _visible_to(principal))
    ).one_or_none()
    if found is None:
        raise UnknownSubject(f"no token {token_id[:32]}")
    connection.execute(
        update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_ms.is_(None)).values(revoked_ms=now_ms)
    )


def revoke_subject_tokens(connection: Connection, role: Role, subject_id: str, now_ms: int) -> int:
    """Revoke every token of a subject; how many were live."""
    result = connection.execute(
        update(tokens)
        .where(tokens.c.role == role.value, tokens.c.subject_id == subject_id, tokens.c.revoked_ms.is_(None))
        .values(revoked_ms=now_ms)
    )
    return result.rowcount
