"""One entry of the log with everything that was stored about it, as an export gives it out.

Place in the flow: ``exporting`` asks for one entry after another, so that memory holds one. Does not check.
"""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection

from surge_backend.audit.items import FULL, BatchPart, Entry, TransferItem
from surge_backend.db.bulk import fetch_all, fetch_one, select_by_keys
from surge_backend.errors import InvariantViolated
from surge_wire.cbor import decode

_PUBLIC: Final = "SELECT settlement, answer FROM batches WHERE log_index = {}"
_HEAD: Final = "SELECT envelope, root, time_ms FROM log_heads WHERE tree_size = {}"
_NODES: Final = "SELECT level, hash FROM log_nodes WHERE (level, idx) IN ({keys})"
_BATCH: Final = (
    "SELECT envelope, hash, gateway_id, seq, received_ms, report_count, accepted_count, sample_count,"
    " window_devices FROM batches WHERE log_index = {}"
)
_REJECTIONS: Final = (
    "SELECT position, device_id, boot, seq, code FROM rejections WHERE log_index = {} ORDER BY position"
)
_TRANSFER: Final = "SELECT id, kind, reference, content_hash, log_index, created_ms FROM transfers"
_TRANSFERS_OF: Final = _TRANSFER + " WHERE log_index = {} ORDER BY ordinal"
_OTHER_TRANSFERS: Final = (
    "SELECT ordinal, id, kind, reference, content_hash, log_index, created_ms FROM transfers"
    " WHERE ordinal > {} AND (log_index IS NULL OR log_index < 0 OR log_index >= {})"
    " ORDER BY ordinal LIMIT 100"
)
_LEGS: Final = "SELECT account_id, amount FROM entries WHERE transfer_id = {} ORDER BY position"


def entry_at(connection: Connection, index: int, scope: int) -> Entry:
    """The entry at ``index``. Raises InvariantViolated where the log has a head for it and no entry."""
    decided = fetch_one(connection, _PUBLIC, index)
    head = fetch_one(connection, _HEAD, index + 1)
    if decided is None or head is None:
        raise InvariantViolated(
            f"the log lacks entry {index} or its head; `surge backend check` says more, restore a backup"
        )
    part = _batch_part(connection, index) if scope == FULL else None
    fields: list[Any] = [index, *decided, *head, _nodes(connection, index), part]
    return Entry(*fields)


def _nodes(connection: Connection, index: int) -> list[bytes]:
    """The subtrees that the entry completed, from the leaf up."""
    keys = [(0, index)]
    while keys[-1][1] & 1:
        level, at = keys[-1]
        keys.append((level + 1, at >> 1))
    return [row[1] for row in sorted(select_by_keys(connection, _NODES, keys))]


def _batch_part(connection: Connection, index: int) -> BatchPart:
    *fields, windows = fetch_one(connection, _BATCH, index)
    rejections = fetch_all(connection, _REJECTIONS, index)
    transfers = [_transfer(connection, row) for row in fetch_all(connection, _TRANSFERS_OF, index)]
    named = decode(windows) if windows else []
    part: list[Any] = [*fields, named, rejections, transfers]
    return BatchPart(*part)


def _transfer(connection: Connection, row: tuple[Any, ...]) -> TransferItem:
    fields: list[Any] = [*row, fetch_all(connection, _LEGS, row[0])]
    return TransferItem(*fields)


def other_transfers(connection: Connection, size: int) -> Iterator[TransferItem]:
    """Transfers of none of the log's ``size`` entries."""
    ordinal = 0
    while True:
        rows = fetch_all(connection, _OTHER_TRANSFERS, ordinal, size)
        for row in rows:
            ordinal = row[0]
            yield _transfer(connection, row[1:])
        if len(rows) < 100:
            return
