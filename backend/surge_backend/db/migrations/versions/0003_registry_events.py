"""What changed in the registry, from which entry of the log on; made up from the rows for what came before.

A backfilled event stands at the log's size of its time, as the heads have it. Where no time is known (a
retirement, a revocation), it stands where the verdicts say that it counted.
"""

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

from surge_wire.cbor import encode

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_EVENTS: Final = (
    # time, the log's size then, kind, subject, detail: in the order of these lines where time is the same
    (
        "SELECT created_ms, id, valid_from_ms, sample_microcredits, kib_microcredits, gateway_share_bp"
        " FROM (SELECT CAST(version AS VARCHAR(17)) AS id, t.* FROM tariffs t) AS numbered",
        "tariff_added",
        (5, 6, 7, 8),
    ),
    ("SELECT created_ms, id FROM owners", "owner_created", ()),
    ("SELECT created_ms, id, owner_id, public_key FROM gateways", "gateway_enrolled", (1, 3)),
    ("SELECT created_ms, id, owner_id, gateway_id FROM devices", "device_enrolled", (1, 2)),
    # a hold was made for each freezing, in the transaction of the batch that holds the evidence
    (
        "SELECT h.created_ms, h.device_id, min(r.log_index) FROM holds h JOIN rejections r"
        " ON r.device_id = h.device_id AND r.received_ms = h.created_ms AND r.code IN (5, 6)"
        " GROUP BY h.id, h.created_ms, h.device_id",
        "device_frozen",
        (4,),
    ),
    (
        "SELECT DISTINCT released_ms, device_id FROM holds WHERE released_ms IS NOT NULL",
        "device_unfrozen",
        (),
    ),
)
_RETIRED: Final = (
    "SELECT d.id, (SELECT min(r.log_index) FROM rejections r WHERE r.device_id = d.id AND r.code = 8)"
    " FROM devices d WHERE d.status = 'retired'"
)
_REVOKED: Final = "SELECT id FROM gateways WHERE status = 'retired'"


def upgrade() -> None:
    """Make the table, and the events of what is there."""
    table = op.create_table(
        "registry_events",
        sa.Column("ordinal", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tree_size", sa.BigInteger(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject_id", sa.String(length=17), nullable=False),
        sa.Column("detail", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("ordinal", name=op.f("pk_registry_events")),
    )
    op.create_index(op.f("ix_registry_events_tree_size"), "registry_events", ["tree_size"], unique=False)
    rows = [{"ordinal": ordinal, **event} for ordinal, event in enumerate(_backfill(op.get_bind()), start=1)]
    if rows:
        op.bulk_insert(table, rows)


def _backfill(connection: sa.Connection) -> list[dict[str, Any]]:
    heads = connection.exec_driver_sql("SELECT tree_size, time_ms FROM log_heads ORDER BY tree_size").all()
    size, time_ms = heads[-1] if heads else (0, 0)
    latest_ms = list(accumulate((head[1] for head in heads), max))  # a clock may have gone back
    events = []
    for query, kind, labels in _EVENTS:
        for created_ms, subject_id, *values in connection.exec_driver_sql(query):
            if kind == "device_frozen":
                tree_size = values[0] + 1
            else:
                # in one millisecond with a batch: enrolled before it, let go on after it
                bisect = bisect_right if kind == "device_unfrozen" else bisect_left
                tree_size = max(0, bisect(latest_ms, created_ms) - 1)
            events.append(
                _event(tree_size, created_ms, kind, subject_id, dict(zip(labels, values, strict=True)))
            )
    retired = dict(tuple(row) for row in connection.exec_driver_sql(_RETIRED))
    for event in events:
        refused = retired.get(event["subject_id"])
        if event["kind"] == "device_unfrozen" and refused is not None and refused < event["tree_size"]:
            event["kind"] = "holds_released"  # an administrator looked after the owner had retired it
    for subject_id, log_index in retired.items():
        events.append(
            _event(size if log_index is None else log_index, time_ms, "device_retired", subject_id, {})
        )
    for (subject_id,) in connection.exec_driver_sql(_REVOKED):
        events.append(_event(size, time_ms, "gateway_revoked", subject_id, {}))
    return sorted(events, key=lambda event: event["tree_size"])


def _event(
    tree_size: int, time_ms: int, kind: str, subject_id: str, detail: dict[int, Any]
) -> dict[str, Any]:
    return {
        "tree_size": tree_size,
        "time_ms": time_ms,
        "kind": kind,
        "subject_id": subject_id,
        "detail": encode(detail),
    }
