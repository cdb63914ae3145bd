"""Ack: what a gateway has on disk of one device and boot (spec/ack.md).

Ranges as in QUIC (RFC 9000 section 19.3): one ack covers many reports, and a hole holds up nothing behind it.
Not authenticated: a forged ack makes a device forget reports, which shows as a gap, and mints nothing.
"""

from .cbor import decode, encode
from .errors import DecodeError, EncodeError
from .fields import check_uint, map_of, ranges, uint
from .limits import ACK_LEN_MAX, ACK_RANGES_MAX, UINT32_MAX, UINT53_MAX

BOOT = 1
RANGES = 2
TIME_MS = 3
_LABELS = frozenset((BOOT, RANGES, TIME_MS))


class Ack:
    """``ranges`` are inclusive ``(first, last)`` seqs, rising; ``time_ms`` is the gateway's clock."""

    __slots__ = ("boot", "ranges", "time_ms")

    def __init__(self, boot: int, ranges: "list[tuple[int, int]]", time_ms: int) -> None:
        self.boot = boot
        self.ranges = ranges
        self.time_ms = time_ms


def encode_ack(ack: Ack) -> bytes:
    """At most ACK_LEN_MAX bytes, 1 to ACK_RANGES_MAX ranges."""
    if not 0 < len(ack.ranges) <= ACK_RANGES_MAX:
        raise EncodeError("ack needs 1 to 16 ranges")
    floor = -1
    for first, last in ack.ranges:
        if not floor < first <= last <= UINT32_MAX:
            raise EncodeError("ranges not rising")
        floor = last + 1
    boot = check_uint(ack.boot, UINT32_MAX, "boot")
    time_ms = check_uint(ack.time_ms, UINT53_MAX, "time_ms")
    return encode({BOOT: boot, RANGES: ack.ranges, TIME_MS: time_ms})


def decode_ack(data: bytes) -> Ack:
    """Raises DecodeError."""
    if len(data) > ACK_LEN_MAX:
        raise DecodeError("too long")
    fields = map_of(decode(data), _LABELS)
    found = ranges(fields.get(RANGES), ACK_RANGES_MAX, UINT32_MAX)
    if not found:
        raise DecodeError("ack needs 1 to 16 ranges")
    return Ack(uint(fields, BOOT, UINT32_MAX), found, uint(fields, TIME_MS, UINT53_MAX))
