"""Batch: reports that a gateway forwards together, under its signature (spec/batch.md).

A COSE_Sign1 (Ed25519), kid is the gateway id. Reports are carried as they came, byte for byte. ``seq`` and
``previous`` (SHA-256 of the previous batch's payload) chain a gateway's batches, so a gap, a fork or a
change of order shows.
"""

import hashlib

from .cbor import decode, encode
from .cose import TAG_SIGN1, Opened, open_profile, seal_sign1
from .errors import DecodeError, EncodeError
from .fields import array, check_uint, map_of, octets, ranges, text, uint
from .ids import DEVICE, GATEWAY, decode_id, is_id
from .limits import (
    BATCH_LEN_MAX,
    BATCH_REPORTS_MAX,
    BATCH_SUMMARISED_MAX,
    BATCH_WINDOWS_MAX,
    HASH_LEN,
    NAME_LEN_MAX,
    REPORT_LEN_MAX,
    SUMMARISED_RANGES_MAX,
    UINT32_MAX,
    UINT53_MAX,
    UNIT_LEN_MAX,
)
from .senml import name_valid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

SEQ = 1
PREVIOUS = 2
CLOSED_MS = 3
REPORTS = 4
RECEIVED_MS = 5
WINDOWS = 6
SUMMARISED = 7
_LABELS = frozenset((SEQ, PREVIOUS, CLOSED_MS, REPORTS, RECEIVED_MS, WINDOWS, SUMMARISED))

FIRST_PREVIOUS = bytes(HASH_LEN)  # what the first batch of a gateway carries


class Window:
    """One quantity of one device over ``[from_ms, to_ms)``, made by the gateway: telemetry, never paid."""

    __slots__ = ("count", "device_id", "from_ms", "maximum", "mean", "minimum", "name", "to_ms", "unit")

    def __init__(
        self,
        device_id: str,
        name: str,
        unit: str,
        from_ms: int,
        to_ms: int,
        count: int,
        minimum: "int | float",
        mean: float,
        maximum: "int | float",
    ) -> None:
        self.device_id = device_id
        self.name = name
        self.unit = unit
        self.from_ms = from_ms
        self.to_ms = to_ms
        self.count = count
        self.minimum = minimum
        self.mean = mean
        self.maximum = maximum


class Summarised:
    """Reports of one device and boot that went into windows and are not forwarded: inclusive seq ranges."""

    __slots__ = ("boot", "device_id", "ranges")

    def __init__(self, device_id: str, boot: int, ranges: "list[tuple[int, int]]") -> None:
        self.device_id = device_id
        self.boot = boot
        self.ranges = ranges


class Batch:
    """``received_ms[i]`` is when the gateway got ``reports[i]``; times are the gateway's clock in
    milliseconds."""

    __slots__ = ("closed_ms", "previous", "received_ms", "reports", "seq", "summarised", "windows")

    def __init__(
        self,
        seq: int,
        previous: bytes,
        closed_ms: int,
        reports: "list[bytes]",
        received_ms: "list[int]",
        windows: "list[Window] | None" = None,
        summarised: "list[Summarised] | None" = None,
    ) -> None:
        self.seq = seq
        self.previous = previous
        self.closed_ms = closed_ms
        self.reports = reports
        self.received_ms = received_ms
        self.windows = windows or []
        self.summarised = summarised or []


def encode_batch(batch: Batch) -> bytes:
    """The payload bytes of ``batch``."""
    if len(batch.reports) > BATCH_REPORTS_MAX or len(batch.reports) != len(batch.received_ms):
        raise EncodeError("too many reports, or times that don't match")
    fields: "dict[int, Any]" = {
        SEQ: check_uint(batch.seq, UINT53_MAX, "seq"),
        PREVIOUS: batch.previous,
        CLOSED_MS: check_uint(batch.closed_ms, UINT53_MAX, "closed_ms"),
        REPORTS: batch.reports,
        RECEIVED_MS: batch.received_ms,
    }
    if batch.windows:
        fields[WINDOWS] = [
            [w.device_id, w.name, w.unit, w.from_ms, w.to_ms, w.count, w.minimum, w.mean, w.maximum]
            for w in batch.windows
        ]
    if batch.summarised:
        fields[SUMMARISED] = [[s.device_id, s.boot, s.ranges] for s in batch.summarised]
    return encode(fields)


def _is_number(value: object) -> bool:
    return type(value) is int or type(value) is float


def _decode_window(value: "Any") -> Window:
    if type(value) is not list or len(value) != 9:
        raise DecodeError("window not an array of 9")
    device_id, name, unit, from_ms, to_ms, count, minimum, mean, maximum = value
    if not is_id(DEVICE, device_id) or not name_valid(text(name, NAME_LEN_MAX)):
        raise DecodeError("window of no device or name")
    text(unit, UNIT_LEN_MAX)
    for number in (from_ms, to_ms, count):
        if type(number) is not int or not 0 <= number <= UINT53_MAX:
            raise DecodeError("window out of range")
    if not (_is_number(minimum) and _is_number(mean) and _is_number(maximum)):
        raise DecodeError("window out of range")
    if from_ms >= to_ms or count < 1 or not minimum <= mean <= maximum:
        raise DecodeError("window out of range")
    return Window(device_id, name, unit, from_ms, to_ms, count, minimum, float(mean), maximum)


def _decode_summarised(value: "Any") -> Summarised:
    if type(value) is not list or len(value) != 3 or not is_id(DEVICE, value[0]):
        raise DecodeError("summary not an array of 3")
    if type(value[1]) is not int or not 0 <= value[1] <= UINT32_MAX:
        raise DecodeError("summary out of range")
    return Summarised(value[0], value[1], ranges(value[2], SUMMARISED_RANGES_MAX, UINT32_MAX))


def decode_batch(payload: bytes) -> Batch:
    """Read a batch's payload; the reports inside stay opaque. Raises DecodeError."""
    fields = map_of(decode(payload), _LABELS)
    reports = array(fields, REPORTS, BATCH_REPORTS_MAX)
    received_ms = array(fields, RECEIVED_MS, BATCH_REPORTS_MAX)
    if len(reports) != len(received_ms):
        raise DecodeError("times that don't match the reports")
    for report in reports:
        if type(report) is not bytes or len(report) > REPORT_LEN_MAX:
            raise DecodeError("report not a byte string or too long")
    for time_ms in received_ms:
        if type(time_ms) is not int or not 0 <= time_ms <= UINT53_MAX:
            raise DecodeError("time out of range")
    return Batch(
        uint(fields, SEQ, UINT53_MAX),
        octets(fields, PREVIOUS, HASH_LEN),
        uint(fields, CLOSED_MS, UINT53_MAX),
        reports,
        received_ms,
        [_decode_window(w) for w in array(fields, WINDOWS, BATCH_WINDOWS_MAX)],
        [_decode_summarised(s) for s in array(fields, SUMMARISED, BATCH_SUMMARISED_MAX)],
    )


def chain_hash(payload: bytes) -> bytes:
    """What the next batch carries as ``previous``."""
    return hashlib.sha256(payload).digest()


def seal_batch(gateway_id: str, sign: "Callable[[bytes], bytes]", payload: bytes) -> bytes:
    """The envelope around an encoded payload, at most BATCH_LEN_MAX bytes."""
    return seal_sign1(gateway_id, sign, payload, BATCH_LEN_MAX)


def open_batch(envelope: bytes) -> "tuple[str, Opened]":
    """The gateway id and the opened, unverified envelope. Raises DecodeError."""
    opened = open_profile(TAG_SIGN1, envelope, BATCH_LEN_MAX)
    return decode_id(GATEWAY, opened.kid), opened
