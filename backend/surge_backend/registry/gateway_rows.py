"""The gateways table: look up, list, revoke.

Place in the flow: enrolment adds rows, ingest moves `next_seq` and `chain_hash` on, the API reads and
revokes. Every function runs in the caller's transaction.

Rule kept (threat 25): revoking a gateway refuses its batches and ends its tokens from the same moment on, for
ever; what it forwarded before stays, since its devices' MACs, not its signature, decide what was paid.
"""

from sqlalchemy import ColumnElement, Connection, RowMapping, select, update

from surge_backend.db.schema import RETIRED, gateways
from surge_backend.registry.errors import UnknownSubject
from surge_backend.registry.events import GATEWAY_REVOKED, record_event
from surge_backend.registry.token_rows import revoke_subject_tokens
from surge_backend.registry.tokens import Role

GATEWAYS_LISTED_MAX = 1_000


def _owned(owner_id: str | None) -> ColumnElement[bool]:
    return gateways.c.id.is_not(None) if owner_id is None else gateways.c.owner_id == owner_id


def get_gateway(connection: Connection, gateway_id: str, owner_id: str | None = None) -> RowMapping:
    """One gateway. Raises UnknownSubject, also if it is another owner's."""
    row = (
        connection.execute(select(gateways).where(gateways.c.id == gateway_id, _owned(owner_id)))
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise UnknownSubject(f"no gateway {gateway_id}")
    return row


def list_gateways(
    connection: Connection, owner_id: str | None, after_id: str, limit: int
) -> list[RowMapping]:
    """Gateways in the order of their ids, those after `after_id`; of all owners if None."""
    query = select(gateways).where(_owned(owner_id), gateways.c.id > after_id)
    return list(connection.execute(query.order_by(gateways.c.id).limit(limit)).mappings())


def revoke_gateway(connection: Connection, gateway_id: str, owner_id: str | None, now_ms: int) -> None:
    """Refuse the gateway's batches and end its tokens from now on. Again: no change."""
    if get_gateway(connection, gateway_id, owner_id)["status"] != RETIRED:
        connection.execute(update(gateways).where(gateways.c.id == gateway_id).values(status=RETIRED))
        record_event(connection, GATEWAY_REVOKED, gateway_id, now_ms)
    revoke_subject_tokens(connection, Role.GATEWAY, gateway_id, now_ms)
