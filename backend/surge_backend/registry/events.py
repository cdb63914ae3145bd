"""Registry events: who came, was frozen, went on, and from which entry of the log on that counts.

Place in the flow: every function that changes the registry or adds a tariff calls `record_event` in the same
transaction; an export gives the events out, and an auditor decides every verdict again with their help.

Does not: decide anything, or hold names and secrets: an export is read by strangers.

Rules it keeps: rows are only ever added, numbered without a hole. All writers take turns, so the log's size
at that moment is exact: an event counts for the entries from index ``tree_size`` on, and for none before.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection

from surge_backend.db.bulk import fetch_one, insert_rows
from surge_backend.db.schema import registry_events
from surge_wire.cbor import encode

OWNER_CREATED: Final = "owner_created"
GATEWAY_ENROLLED: Final = "gateway_enrolled"
GATEWAY_REVOKED: Final = "gateway_revoked"
DEVICE_ENROLLED: Final = "device_enrolled"
DEVICE_FROZEN: Final = "device_frozen"
DEVICE_UNFROZEN: Final = "device_unfrozen"
DEVICE_RETIRED: Final = "device_retired"
HOLDS_RELEASED: Final = "holds_released"  # of a device that was retired while it was frozen
TARIFF_ADDED: Final = "tariff_added"  # its subject is the version, in decimal

# Labels of ``detail``, a CBOR map (spec/export.md).
OWNER_ID: Final = 1
GATEWAY_ID: Final = 2
PUBLIC_KEY: Final = 3
LOG_INDEX: Final = 4  # of the batch that holds the evidence
VALID_FROM_MS: Final = 5
SAMPLE_MICROCREDITS: Final = 6
KIB_MICROCREDITS: Final = 7
GATEWAY_SHARE_BP: Final = 8

_COLUMNS: Final = ("ordinal", "tree_size", "time_ms", "kind", "subject_id", "detail")
_NEXT: Final = (
    "SELECT coalesce((SELECT max(ordinal) FROM registry_events), 0) + 1,"
    " coalesce((SELECT max(tree_size) FROM log_heads), 0)"
)


def record_event(
    connection: Connection,
    kind: str,
    subject_id: str,
    time_ms: int,
    detail: Mapping[int, Any] | None = None,
) -> None:
    """Add one event, in the transaction that makes it true."""
    ordinal, tree_size = fetch_one(connection, _NEXT)
    row = (ordinal, tree_size, time_ms, kind, subject_id, encode(dict(detail or {})))
    insert_rows(connection, registry_events, _COLUMNS, [row])
