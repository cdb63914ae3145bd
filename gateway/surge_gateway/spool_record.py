"""One report in a spool segment, and the scan that finds records in damaged bytes.

Place in the flow: pure bytes under `spool` and `spool_recovery`. Layout, big endian:

    4  magic c5 53 52 31
    4  CRC-32 of all that follows, started from the segment's salt
    4  length of the report
    8  received_ms
    n  the report as it came

Rules kept: no byte of a record can change unnoticed; after damage the scan goes on at the next record that
checks; the salt is random and stands in the segment's name, so no device can write a report that looks like
a record.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from surge_wire.limits import REPORT_LEN_MAX

MAGIC = b"\xc5SR1"
_OUTER = struct.Struct(">4sI")
_INNER = struct.Struct(">IQ")
HEADER_LEN = _OUTER.size + _INNER.size

_pack_outer = _OUTER.pack
_pack_inner = _INNER.pack


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """A place between two records: all that stands before it in the spool is meant."""

    segment: int
    offset: int


START = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Record:
    """A report found at `start`; the next record begins at `end`."""

    start: int
    end: int
    received_ms: int
    report: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes from `start` to `end` that are no record. `tail`: they run to the end of the data."""

    start: int
    end: int
    tail: bool


def encode_record(salt: int, received_ms: int, report: bytes) -> bytes:
    """The record's bytes."""
    body = _pack_inner(len(report), received_ms) + report
    return _pack_outer(MAGIC, crc32(body, salt)) + body


def read_record(data: bytes, start: int, salt: int) -> Record | None:
    """The record at `start`, None where there is none that checks."""
    body_at = start + _OUTER.size
    if len(data) < start + HEADER_LEN or data[start : start + 4] != MAGIC:
        return None
    length, received_ms = _INNER.unpack_from(data, body_at)
    end = start + HEADER_LEN + length
    if length > REPORT_LEN_MAX or end > len(data):
        return None
    if crc32(memoryview(data)[body_at:end], salt) != _OUTER.unpack_from(data, start)[1]:
        return None
    return Record(start, end, received_ms, data[start + HEADER_LEN : end])


def scan_records(data: bytes, start: int, salt: int) -> Iterator[Record | Damage]:
    """Every record from `start` on, and every span between them that is none."""
    at = start
    while at < len(data):
        record = read_record(data, at, salt)
        if record is not None:
            yield record
            at = record.end
            continue
        after = _next_record(data, at + 1, salt)
        yield Damage(at, len(data) if after is None else after, after is None)
        if after is None:
            return
        at = after


def _next_record(data: bytes, start: int, salt: int) -> int | None:
    """Where the next record that checks begins."""
    at = data.find(MAGIC, start)
    while at >= 0:
        if read_record(data, at, salt) is not None:
            return at
        at = data.find(MAGIC, at + 1)
    return None
