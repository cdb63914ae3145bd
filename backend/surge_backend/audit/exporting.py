"""An export read from the database, item by item.

Place in the flow: ``surge export --config`` writes it to a file, the API streams it; ``verifying`` reads it.

Does not: check anything, or hold a secret: no names, tokens, sealed keys. Rules it keeps:

* entries only ever grow in number, so they are read in short transactions, each up to PART_LEN bytes; the one
  in which they run out also reads the rest, so that entries and rows are of one moment;
* that rest waits in a temporary file, so a slow reader keeps no transaction open, whatever the size;
* memory holds one part.
"""

import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection

from surge_backend.audit import items
from surge_backend.audit.entry_rows import entry_at, other_transfers
from surge_backend.audit.framing import frame
from surge_backend.audit.items import ROWS_MAX, End, Event, Header, Item, Rows, encode_item
from surge_backend.audit.shapes import Row
from surge_backend.db.boots import BOOTS_SQL
from surge_backend.db.bulk import fetch_all, fetch_one
from surge_backend.db.engine import Database
from surge_backend.ingest.places import accepted_reports, batch_digests_at, digest_at
from surge_backend.verify.limits import VerifyLimits
from surge_wire.cbor import decode

PART_LEN: Final = 1024 * 1024  # a part ends with the item that reaches it
SPOOL_IN_MEMORY_LEN: Final = 1024 * 1024
DIGESTS_REMEMBERED_MAX: Final = 256  # batches, 160 kB each at most

_SIZE: Final = "SELECT coalesce(max(tree_size), 0) FROM log_heads"
_EVENTS: Final = (
    "SELECT ordinal, tree_size, time_ms, kind, subject_id, detail FROM registry_events"
    " WHERE tree_size BETWEEN {} AND {} AND ordinal > {} ORDER BY ordinal LIMIT 1000"
)
_TREE_SIZE_ANY: Final = (1 << 63) - 1

# Tables that are given out whole: kind of rows, columns, source, key columns (first so many of the columns).
_TABLES: Final = (
    (
        items.TARIFFS,
        "version, valid_from_ms, sample_microcredits, kib_microcredits, gateway_share_bp",
        "tariffs",
        1,
    ),
    (items.GATEWAYS, "id, owner_id, public_key, status, next_seq, chain_hash", "gateways", 1),
    (
        items.DEVICES,
        "d.id, d.owner_id, d.gateway_id, d.status, t.boot_max, t.reports, t.samples, t.bytes, t.microcredits,"
        " t.carry, t.last_report_ms, t.command_counter",
        "devices d LEFT JOIN device_totals t ON t.device_id = d.id",
        1,
    ),
    (
        items.BOOTS,
        "device_id, boot, seq_max, previous_end, first_seen_ms, last_seen_ms, reports, samples, bytes",
        BOOTS_SQL,
        2,
    ),
    (items.HOLDS, "id, device_id, account_id, amount, created_ms, released_ms", "holds", 1),
    (items.ACCOUNTS, "id, kind, owner_id, may_go_negative, balance, carry", "accounts", 1),
)


@dataclass(frozen=True, slots=True)
class Source:
    """What an export is made from. ``limits`` are those that verdicts are decided by."""

    database: Database
    log_public_key: bytes
    now_ms: Callable[[], int]
    limits: VerifyLimits


def export_parts(
    source: Source, scope: int, first: int = 0, *, whole: bool = True, part_len: int = PART_LEN
) -> Generator[bytes, None, None]:
    """The export from entry ``first`` on, as parts of whole frames. If not ``whole``, one part of entries
    and the end, which says where to go on.

    Each part is made by one call of ``next``, which blocks on the database; close the iterator to end early.
    Raises StoreBusy and what the driver raises.
    """
    with source.database.read() as connection:
        size = _size(connection)
    header = Header(scope, source.log_public_key, first, size, source.now_ms(), source.limits)
    yield frame(encode_item(header))
    index = first
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_IN_MEMORY_LEN) as spool:
        done = False
        while not done:
            part = bytearray()
            with source.database.read() as connection:
                size = _size(connection)
                while index < size and len(part) < part_len:
                    for item in _events(connection, scope, index, index):
                        part += frame(encode_item(item))
                    part += frame(encode_item(entry_at(connection, index, scope)))
                    index += 1
                done = index >= size or not whole
                if index >= size and scope == items.FULL:
                    for item in _rest(connection, size):
                        spool.write(frame(encode_item(item)))
            yield bytes(part)
        spool.seek(0)
        while part_of_rest := spool.read(PART_LEN):
            yield part_of_rest
    yield frame(encode_item(End(size, min(index, size))))


def _size(connection: Connection) -> int:
    return int(fetch_one(connection, _SIZE)[0])


def _rest(connection: Connection, size: int) -> Iterator[Item]:
    yield from _events(connection, items.FULL, size, _TREE_SIZE_ANY)
    for kind, columns, table, key_len in _TABLES:
        yield from _table(connection, kind, columns, table, key_len)
    yield from _reports(connection)
    yield from other_transfers(connection, size)


def _events(connection: Connection, scope: int, first: int, last: int) -> Iterator[Item]:
    """Those that count from an entry between ``first`` and ``last`` on."""
    ordinal = 0
    while scope == items.FULL:
        rows = fetch_all(connection, _EVENTS, first, last, ordinal)
        for row in rows:
            ordinal = row[0]
            number, tree_size, time_ms, kind, subject_id, detail = row
            yield Event(number, tree_size, time_ms, kind, subject_id, decode(detail))
        if len(rows) < ROWS_MAX:
            return


def _table(connection: Connection, kind: int, columns: str, table: str, key_len: int) -> Iterator[Item]:
    """A table in the order of its key, in pages."""
    names = columns.replace("\n", " ").split(", ")[:key_len]
    keys = ", ".join(names)
    marks = ", ".join(["{}"] * key_len)
    sql = f"SELECT {columns} FROM {table}"  # noqa: S608
    order = f" ORDER BY {keys} LIMIT {ROWS_MAX}"
    after: tuple[Any, ...] = ()
    while True:
        condition = f" WHERE ({keys}) > ({marks})" if after else ""
        rows = fetch_all(connection, sql + condition + order, *after)
        if rows:
            yield Rows(kind, [_plain(kind, row) for row in rows])
            after = rows[-1][:key_len]
        if len(rows) < ROWS_MAX:
            return


def _reports(connection: Connection) -> Iterator[Item]:
    """The accepted reports, by device, boot and number."""

    @lru_cache(maxsize=DIGESTS_REMEMBERED_MAX)
    def digests(log_index: int) -> bytes:
        return batch_digests_at(connection, log_index)

    rows: list[Row] = []
    for device_id, boot, place in accepted_reports(connection):
        digest = digest_at(digests(place.log_index), place.position)
        found = (place.seq, place.log_index, place.position, digest, place.samples, place.bytes)
        rows.append((device_id, boot, *found))
        if len(rows) == ROWS_MAX:
            yield Rows(items.REPORTS, rows)
            rows = []
    if rows:
        yield Rows(items.REPORTS, rows)


def _plain(kind: int, row: Row) -> Row:
    """SQLite has no truth values."""
    return (*row[:3], bool(row[3]), *row[4:]) if kind == items.ACCOUNTS else row
