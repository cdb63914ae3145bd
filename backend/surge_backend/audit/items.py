"""The items of an export and their bytes (spec/export.md): one typed value for each kind.

Place in the flow: ``exporting`` makes them from rows, ``verifying`` from bytes that nobody vouches for.

Does not: judge what an item says. Rules it keeps: `decode_item` raises DecodeError and nothing else, whatever
the bytes; signed things stay the byte strings that they are. Numbers of rows may be any integer, so that what
a backend stored wrongly is found as a contradiction and not as an unreadable file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cbor2 import dumps as encode

from surge_backend.audit.shapes import TEXT_LEN_MAX, Row, check_rows, check_shape
from surge_backend.verify.limits import VerifyLimits
from surge_wire.cbor import decode
from surge_wire.errors import DecodeError
from surge_wire.limits import HASH_LEN, TREE_SIZE_MAX, UINT53_MAX

VERSION: Final = 1
PUBLIC: Final = 0  # settlements, answers and heads alone
FULL: Final = 1
ROWS_MAX: Final = 1_000  # of one item
NODES_MAX: Final = 64
WINDOW_DEVICES_MAX: Final = 20_000

# Kinds of items, their first field.
HEADER: Final = 0
EVENT: Final = 1
ENTRY: Final = 2
GATEWAYS: Final = 3
DEVICES: Final = 4
BOOTS: Final = 5
REPORTS: Final = 6
TARIFFS: Final = 7
HOLDS: Final = 8
ACCOUNTS: Final = 9
TRANSFER: Final = 10
END: Final = 11

# Fields of rows: i an integer, I one or null, t text, T text or null, b a byte string, o true or false.
ROW_SHAPES: Final = {
    GATEWAYS: "ttbtib",  # id, owner, public key, status, next seq, hash of the last payload
    # id, owner, gateway, status; boot_max, reports, samples, bytes, microcredits, carry, last_report_ms, last
    # command executed, all of them null before the first report
    DEVICES: "ttTtIIIIIIII",
    BOOTS: "tiiIiiiii",  # device, boot, seq_max, previous_end, first and last seen, reports, samples, bytes
    REPORTS: "tiiiibii",  # device, boot, seq, log index, position, digest, samples, bytes
    TARIFFS: "iiiii",  # version, valid_from_ms, sample, KiB, gateway's share
    HOLDS: "ittiiI",  # id, device, account, amount, created_ms, released_ms
    ACCOUNTS: "ttToii",  # id, kind, owner, may go negative, balance, carry
}
_REJECTION: Final = "iTIIi"  # position, device, boot, seq, code
_LEG: Final = "ti"


@dataclass(frozen=True, slots=True)
class Header:
    """The first item: whose log, how far it went when the export began, and what verdicts are bound by."""

    scope: int
    log_public_key: bytes
    first: int  # the first entry that the export holds
    tree_size: int
    time_ms: int
    limits: VerifyLimits


@dataclass(frozen=True, slots=True)
class Event:
    """A registry event (registry.events)."""

    ordinal: int
    tree_size: int
    time_ms: int
    kind: str
    subject_id: str
    detail: dict[int, Any]


@dataclass(frozen=True, slots=True)
class TransferItem:
    """A transfer and its legs, as stored."""

    id: bytes
    kind: str
    reference: bytes
    content_hash: bytes
    log_index: int | None
    created_ms: int
    legs: list[Row]


@dataclass(frozen=True, slots=True)
class BatchPart:
    """What only an auditor gets of an entry: the batch, the row about it, rejections and transfers."""

    envelope: bytes
    hash: bytes
    gateway_id: str
    seq: int
    received_ms: int
    report_count: int
    accepted_count: int
    sample_count: int
    window_devices: list[str]
    rejections: list[Row]
    transfers: list[TransferItem]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log. ``nodes``: the hashes of the subtrees that it completed, its leaf first."""

    index: int
    settlement: bytes
    answer: bytes
    head: bytes
    head_root: bytes
    head_time_ms: int
    nodes: list[bytes]
    batch: BatchPart | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table, shaped as ROW_SHAPES says of ``kind``."""

    kind: int
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class End:
    """The last item. ``next_index`` is below ``tree_size`` where the rest has to be asked for."""

    tree_size: int
    next_index: int


Item = Header | Event | Entry | Rows | TransferItem | End


def encode_item(item: Item) -> bytes:
    """An item's bytes, without its frame."""
    if isinstance(item, Header):
        limits = [getattr(item.limits, name) for name in VerifyLimits.__slots__]
        return encode(
            [
                HEADER,
                VERSION,
                item.scope,
                item.log_public_key,
                item.first,
                item.tree_size,
                item.time_ms,
                limits,
            ]
        )
    if isinstance(item, Event):
        return encode(
            [EVENT, item.ordinal, item.tree_size, item.time_ms, item.kind, item.subject_id, item.detail]
        )
    if isinstance(item, Entry):
        part = item.batch
        fields = [item.index, item.settlement, item.answer, item.head, item.head_root, item.head_time_ms]
        return encode([ENTRY, *fields, item.nodes, None if part is None else _batch_fields(part)])
    if isinstance(item, TransferItem):
        return encode([TRANSFER, *_transfer_fields(item)])
    if isinstance(item, End):
        return encode([END, item.tree_size, item.next_index])
    return encode([item.kind, item.rows])


def _batch_fields(part: BatchPart) -> list[Any]:
    return [
        part.envelope,
        part.hash,
        part.gateway_id,
        part.seq,
        part.received_ms,
        part.report_count,
        part.accepted_count,
        part.sample_count,
        part.window_devices,
        part.rejections,
        [_transfer_fields(transfer) for transfer in part.transfers],
    ]


def _transfer_fields(item: TransferItem) -> list[Any]:
    return [
        item.id,
        item.kind,
        item.reference,
        item.content_hash,
        item.log_index,
        item.created_ms,
        item.legs,
    ]


def decode_item(data: bytes) -> Item:
    """Raises DecodeError."""
    fields = decode(data)
    if type(fields) is not list or not fields or type(fields[0]) is not int:
        raise DecodeError("not an item of an export")
    kind = fields[0]
    if kind in ROW_SHAPES:
        check_shape(fields, "ia")
        return Rows(kind, check_rows(fields[1], ROW_SHAPES[kind], ROWS_MAX))
    reader = _READERS.get(kind)
    if reader is None:
        raise DecodeError("item not known", -1, str(kind))
    return reader(fields)


def _read_header(fields: list[Any]) -> Header:
    if len(fields) < 2 or fields[1] != VERSION:
        raise DecodeError("an export of another version", -1, str(fields[1:2])[:TEXT_LEN_MAX])
    check_shape(fields, "iiibiiia")
    _, _, scope, key, first, tree_size, time_ms, limits = fields
    if scope not in (PUBLIC, FULL) or len(key) != HASH_LEN or not 0 <= first <= TREE_SIZE_MAX:
        raise DecodeError("header out of range")
    check_shape(limits, "i" * len(VerifyLimits.__slots__))
    if not all(1 <= limit <= UINT53_MAX for limit in limits) or not 0 <= tree_size <= TREE_SIZE_MAX:
        raise DecodeError("header out of range")
    return Header(scope, key, first, tree_size, time_ms, VerifyLimits(*limits))


def _read_event(fields: list[Any]) -> Event:
    check_shape(fields, "iiiittm")
    return Event(*fields[1:])


def _read_entry(fields: list[Any]) -> Entry:
    check_shape(fields, "iibbbbiaA")
    nodes = fields[7]
    if len(nodes) > NODES_MAX:
        raise DecodeError("too many nodes")
    check_shape(nodes, "b" * len(nodes))
    part = None if fields[8] is None else _read_batch(fields[8])
    checked: list[Any] = [*fields[1:8], part]
    return Entry(*checked)


def _read_batch(fields: list[Any]) -> BatchPart:
    check_shape(fields, "bbtiiiiiaaa")
    windows = fields[8]
    if len(windows) > WINDOW_DEVICES_MAX:
        raise DecodeError("too many window devices")
    check_shape(windows, "t" * len(windows))
    transfers = []
    for transfer in fields[10]:
        if type(transfer) is not list:
            raise DecodeError("transfer not an array")
        transfers.append(_read_transfer([TRANSFER, *transfer]))
    checked: list[Any] = [*fields[:9], check_rows(fields[9], _REJECTION), transfers]
    return BatchPart(*checked)


def _read_transfer(fields: list[Any]) -> TransferItem:
    check_shape(fields, "ibtbbIia")
    checked: list[Any] = [*fields[1:7], check_rows(fields[7], _LEG)]
    return TransferItem(*checked)


def _read_end(fields: list[Any]) -> End:
    check_shape(fields, "iii")
    return End(fields[1], fields[2])


_READERS: Final[dict[int, Callable[[list[Any]], Item]]] = {
    HEADER: _read_header,
    EVENT: _read_event,
    ENTRY: _read_entry,
    TRANSFER: _read_transfer,
    END: _read_end,
}
