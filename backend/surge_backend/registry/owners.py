"""Owners: who devices and gateways belong to, and whose accounts are paid.

Place in the flow: made by an admin; everything else hangs on an owner. Its ledger account is opened with it,
at zero.
"""

import os

from sqlalchemy import Connection, RowMapping, insert, select

from surge_backend.db.schema import owners
from surge_backend.ledger.posting import open_owner_accounts
from surge_backend.registry.errors import UnknownSubject
from surge_backend.registry.events import OWNER_CREATED, record_event
from surge_wire.ids import OWNER, make_id

NAME_LEN_MAX = 64
OWNERS_LISTED_MAX = 1_000


def create_owner(connection: Connection, name: str, now_ms: int) -> str:
    """A new owner's id."""
    owner_id = make_id(OWNER, os.urandom(10))
    connection.execute(insert(owners).values(id=owner_id, name=name, created_ms=now_ms))
    open_owner_accounts(connection, [owner_id])
    record_event(connection, OWNER_CREATED, owner_id, now_ms)
    return owner_id


def require_owner(connection: Connection, owner_id: str) -> None:
    """Raises UnknownSubject if there is no such owner."""
    if connection.execute(select(owners.c.id).where(owners.c.id == owner_id)).one_or_none() is None:
        raise UnknownSubject(f"no owner {owner_id}")


def list_owners(connection: Connection, after_id: str, limit: int) -> list[RowMapping]:
    """Owners in the order of their ids, those after `after_id`."""
    query = select(owners).where(owners.c.id > after_id).order_by(owners.c.id).limit(limit)
    return list(connection.execute(query).mappings())
