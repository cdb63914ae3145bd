"""Reading a report of a shape that is known: one match instead of decoding and checking.

Place in the flow: ``plain`` asks `Shapes.read` for a payload whose MAC is right, before it decodes; what it
then decodes and finds plain, it hands to `Shapes.learn`.

A device sends the same names and units again and again, and only the numbers change. The shape of a payload
is a regular expression: every byte as it was, but for the numbers, for which any encoding of any number
stands that the format allows there. A payload that matches is as plain as the one that was learnt from; the
numbers that decide anything are captured. A tenth of the work: the engine goes over the bytes once, no object
is made for a record.

Does not: say that anything is wrong; what doesn't match is decoded. Learns nothing with the rarer fields.

Rules kept: the heads of numbers differ in their first byte, so a match never goes back, whatever the bytes;
shapes, and how many are learnt in a batch, are bounded, because anybody with a device can make them up.
"""

import re
from dataclasses import dataclass
from typing import Final

from surge_wire.report import (
    BOOT,
    PACK,
    SEQ,
    TIME_MS,
    UPTIME_MS,
    USAGE,
    USAGE_BYTES,
    USAGE_DROPPED,
    USAGE_ENERGY_UJ,
    USAGE_FUEL,
    USAGE_REPORTS,
    USAGE_SAMPLES,
    Usage,
)
from surge_wire.senml import NAME, TIME, UNIT, VALUE

# When full, all are forgotten and learnt again.
SHAPES_MAX: Final = 512
DEVICES_MAX: Final = 100_000
# Shapes of one device, the newest: with and without its counters, and two more.
DEVICE_SHAPES_MAX: Final = 4
# Tried for a device of which none matches: boards of one kind have the same.
NEWEST_MAX: Final = 4
# Of one batch. Looking a payload over takes as long as reading ten reports, a new shape 2 ms.
LOOKED_OVER_MAX: Final = 32
NEW_MAX: Final = 1

_UINT32: Final = rb"([\x00-\x17]|\x18.|\x19..|\x1a.{4})"
_UINT53: Final = rb"(?:[\x00-\x17]|\x18.|\x19..|\x1a.{4}|\x1b\x00[\x00-\x1f].{6})"
_NUMBER: Final = (
    rb"(?:[\x00-\x17\x20-\x37]|[\x18\x38].|[\x19\x39]..|[\x1a\x3a].{4}|[\x1b\x3b].{8}"
    rb"|\xf9(?![\x7c-\x7f\xfc-\xff])..|\xfa(?![\x7f\xff][\x80-\xff]).{4}|\xfb(?![\x7f\xff][\xf0-\xff]).{8})"
)

_COUNTERS: Final = (USAGE_REPORTS, USAGE_SAMPLES, USAGE_BYTES, USAGE_DROPPED)
_UINT, _TEXT, _ARRAY, _MAP = 0, 3, 4, 5  # major types

Read = tuple[int, int, int, Usage | None]  # boot, seq, samples, usage


class NoShape(Exception):
    """A payload with something that shapes leave out."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One shape: the groups of ``pattern`` are boot, seq and the device's counters, in the order of
    ``groups``."""

    pattern: re.Pattern[bytes]
    samples: int
    groups: tuple[int, ...]  # BOOT, SEQ, then labels of counters, negated

    def read(self, payload: bytes, start: int, end: int) -> Read | None:
        """What ``payload[start:end]`` says, if it is of this shape."""
        match = self.pattern.fullmatch(payload, start, end)
        if match is None:
            return None
        first, second, *counters = match.groups()
        boot, seq = _uint(first), _uint(second)
        if self.groups[0] != BOOT:
            boot, seq = seq, boot
        if not counters:
            return boot, seq, self.samples, None
        said = dict(zip(self.groups[2:], map(_uint, counters), strict=True))
        reports, samples, length, dropped = [said[-label] for label in _COUNTERS]
        usage = Usage(reports, samples, length, dropped, said.get(-USAGE_FUEL), said.get(-USAGE_ENERGY_UJ))
        return boot, seq, self.samples, usage


class Shapes:
    """What was learnt so far. Safe to share between threads: at worst something is learnt twice."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, Shape] = {}
        self._by_device: dict[bytes, tuple[Shape, ...]] = {}
        self._newest: tuple[Shape, ...] = ()
        self._looked_over = 0
        self._new = 0

    def begin_batch(self) -> None:
        """From now on count what is learnt anew."""
        self._looked_over = self._new = 0

    def read(self, kid: bytes, payload: bytes, start: int, end: int) -> Read | None:
        """What ``payload[start:end]``, by the device ``kid``, says; None if it has to be decoded."""
        known = self._by_device.get(kid, ())
        for shape in known:
            found = shape.read(payload, start, end)
            if found is not None:
                return found
        for shape in self._newest:
            if shape not in known:
                found = shape.read(payload, start, end)
                if found is not None:
                    self._note(kid, shape)
                    return found
        return None

    def learn(self, kid: bytes, payload: bytes) -> None:
        """Take in the shape of ``payload``, which was decoded and is plain."""
        if self._looked_over >= LOOKED_OVER_MAX:
            return
        self._looked_over += 1
        try:
            source, samples, groups = _Walk(payload).shape()
        except NoShape:
            return
        shape = self._shapes.get(source)
        if shape is None:
            if self._new >= NEW_MAX:
                return
            self._new += 1
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
                self._by_device.clear()
                self._newest = ()
            shape = self._shapes[source] = Shape(re.compile(source, re.DOTALL), samples, groups)
        if shape not in self._newest:
            self._newest = (shape, *self._newest)[:NEWEST_MAX]
        self._note(kid, shape)

    def _note(self, kid: bytes, shape: Shape) -> None:
        if len(self._by_device) >= DEVICES_MAX:
            self._by_device.clear()
        self._by_device[kid] = (shape, *self._by_device.get(kid, ()))[:DEVICE_SHAPES_MAX]


def _uint(item: bytes) -> int:
    """An unsigned integer as it is encoded."""
    return item[0] if len(item) == 1 else int.from_bytes(item[1:], "big")


class _Walk:
    """Goes over a payload that is known to be plain, and puts its pattern together."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0
        self._parts: list[bytes] = []
        self._groups: list[int] = []
        self._samples = 0

    def shape(self) -> tuple[bytes, int, tuple[int, ...]]:
        for _ in range(self._literal(_MAP)):
            label = self._literal(_UINT)
            if label in (BOOT, SEQ):
                self._number(_UINT32)
                self._groups.append(label)
            elif label in (UPTIME_MS, TIME_MS):
                self._number(_UINT53)
            elif label == PACK:
                self._pack()
            elif label == USAGE:
                self._usage()
            else:
                raise NoShape
        if set(self._groups[:2]) != {BOOT, SEQ}:
            raise NoShape  # the counters come first; nothing of ours writes that
        return b"".join(self._parts), self._samples, tuple(self._groups)

    def _pack(self) -> None:
        self._samples = self._literal(_ARRAY)
        for _ in range(self._samples):
            for _ in range(self._literal(_MAP)):
                label = self._literal(_UINT)
                if label in (NAME, UNIT):
                    self._skip(self._literal(_TEXT))
                elif label in (VALUE, TIME):
                    self._number(_NUMBER)
                else:
                    raise NoShape

    def _usage(self) -> None:
        for _ in range(self._literal(_MAP)):
            self._groups.append(-self._literal(_UINT))
            self._number(b"(" + _UINT53 + b")")

    def _head(self) -> tuple[int, int, int]:
        """Major type, argument and length of the head at hand."""
        first = self._payload[self._at]
        size = first & 0x1F
        if size < 24:
            return first >> 5, size, 1
        length = 1 << size - 24
        return (
            first >> 5,
            int.from_bytes(self._payload[self._at + 1 : self._at + 1 + length], "big"),
            1 + length,
        )

    def _literal(self, kind: int) -> int:
        """Take a head as it is, and give its argument."""
        found, argument, length = self._head()
        if found != kind:
            raise NoShape
        self._skip(length)
        return argument

    def _skip(self, length: int) -> None:
        self._parts.append(re.escape(self._payload[self._at : self._at + length]))
        self._at += length

    def _number(self, pattern: bytes) -> None:
        self._parts.append(pattern)
        self._at += self._head()[2]
