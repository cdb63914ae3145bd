"""What one telemetry point is, and the few rules that make it safe to write into any store.

Place in the flow: the last typed value between an accepted report and a store. Whoever turns SenML records
into points does so with the device id that the report's MAC proved; nothing in a report can choose another
(threats 8, 20).

Does not: read reports, talk to a store, look at a clock.

Rules it keeps: a Point that exists is valid. Every field is checked on construction, so that encoders and
stores need not check again. A point's identity is (device_id, name, unit, time_ns); writing the same identity
again replaces the value, which is what makes a retry harmless.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

from surge_wire.limits import NAME_LEN_MAX, TEXT_VALUE_LEN_MAX

# The wire allows less; what a gateway's aggregation or a later registry adds must still fit.
UNIT_LEN_MAX: Final = 32
NS_PER_MS: Final = 1_000_000
# 2000-01-01 and 2100-01-01, UTC. A time outside is refused: it is a clock at zero, seconds taken for
# milliseconds, or an attempt to hide a point. (Whoever makes the point replaces such a time by the receive
# time, see TIME_SKEWED.)
TIME_MIN_NS: Final = 946_684_800_000 * NS_PER_MS
TIME_MAX_NS: Final = 4_102_444_800_000 * NS_PER_MS
# CBOR's integers are 64 bits and a sign. Beyond 2**53 a store's floating point value is the nearest one.
INT_MIN: Final = -(1 << 64)
INT_MAX: Final = (1 << 64) - 1
FLAGS_MAX: Final = (1 << 31) - 1

TIME_FROM_GATEWAY: Final = 1  # the device had no clock; the time is the gateway's receive time
TIME_SKEWED: Final = 2  # the device's clock was out of the accepted bounds; the time is the receive time
AGGREGATED: Final = 4  # the value sums up a window of samples, made by the gateway

Value = float | int | bool | str

_DEVICE_ID: Final = re.compile(r"d[a-z2-7]{16}")
_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9\-:./_]{{0,{NAME_LEN_MAX - 1}}}")
_UNIT: Final = re.compile(rf"[ -~]{{0,{UNIT_LEN_MAX}}}")
_MIX: Final = struct.Struct(">III")
_SHOWN_LEN_MAX: Final = 80  # how much of a hostile value an error message repeats


class PointError(ValueError):
    """A value that can't be a telemetry point; ``field`` and ``reason`` say which and why."""

    def __init__(self, field: str, shown: object, reason: str) -> None:
        text = repr(shown)
        if len(text) > _SHOWN_LEN_MAX:
            text = text[:_SHOWN_LEN_MAX] + "…"
        super().__init__(f"telemetry point: {field} {text} {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one quantity of one device at one moment. Raises PointError when a field breaks its rule.

    ``name`` follows RFC 8428 section 4.5.1; ``unit`` is printable ASCII, "" for none; ``time_ns`` counts from
    1970.
    """

    device_id: str
    name: str
    unit: str
    time_ns: int
    value: Value
    flags: int = 0

    def __post_init__(self) -> None:
        check_device_id(self.device_id)
        check_name(self.name)
        if type(self.unit) is not str or not _UNIT.fullmatch(self.unit):
            raise PointError("unit", self.unit, f"is not 0 to {UNIT_LEN_MAX} printable ASCII characters")
        if type(self.time_ns) is not int or not TIME_MIN_NS <= self.time_ns < TIME_MAX_NS:
            raise PointError("time_ns", self.time_ns, "is not nanoseconds within the years 2000 to 2099")
        if type(self.flags) is not int or not 0 <= self.flags <= FLAGS_MAX:
            raise PointError("flags", self.flags, "is not a set of flag bits")
        _check_value(self.value)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What identifies the point: a second write under the same key replaces the first."""
        return (self.device_id, self.name, self.unit, self.time_ns)


def check_device_id(device_id: object) -> None:
    """Raises PointError unless ``device_id`` is a device's id."""
    if type(device_id) is not str or not _DEVICE_ID.fullmatch(device_id):
        raise PointError("device_id", device_id, "is not a device id (d and 16 of a-z, 2-7)")


def check_name(name: object) -> None:
    """Raises PointError unless ``name`` is a SenML name (RFC 8428 section 4.5.1) of at most NAME_LEN_MAX
    characters."""
    if type(name) is not str or not _NAME.fullmatch(name):
        raise PointError("name", name, f"is not a SenML name of 1 to {NAME_LEN_MAX} characters")


def _check_value(value: object) -> None:
    kind = type(value)
    if kind is float:
        if not isfinite(value):  # type: ignore[arg-type]
            raise PointError("value", value, "is not finite")
    elif kind is int:
        if not INT_MIN <= value <= INT_MAX:  # type: ignore[operator]
            raise PointError("value", value, "does not fit 64 bits and a sign")
    elif kind is str:
        if len(value) > TEXT_VALUE_LEN_MAX:  # type: ignore[arg-type]
            raise PointError("value", value, f"is longer than {TEXT_VALUE_LEN_MAX} characters")
        try:
            value.encode()  # type: ignore[attr-defined]
        except UnicodeEncodeError:
            raise PointError("value", value, "has lone surrogates, which no UTF-8 can carry") from None
    elif kind is not bool:
        raise PointError("value", value, "is not a number, a truth value or a text")


def point_time_ns(time_ms: int, boot: int, seq: int, index: int) -> int:
    """The point's time: ``time_ms``, with six digits below it that are a mix of the report's counters and the
    index.

    The mix is the same at every retry and rebuild, so a write stays idempotent. Two reports of one device
    that claim the same millisecond land on different nanoseconds (but for one chance in a million), so a
    device with a wrong clock hardly overwrites its own history, and no other device's history at all (threat
    20).
    """
    mix = zlib.crc32(_MIX.pack(boot & 0xFFFFFFFF, seq & 0xFFFFFFFF, index & 0xFFFFFFFF))
    return time_ms * NS_PER_MS + mix % NS_PER_MS


def last_of_each(points: Sequence[Point]) -> Sequence[Point]:
    """``points`` with one point per key, the last given; what a store would keep after writing them in
    turn."""
    by_key = {point.key: point for point in points}
    return points if len(by_key) == len(points) else list(by_key.values())
