"""Points to InfluxDB line protocol, and back where a store returns what was escaped.

Place in the flow: what the InfluxDB stores send as a request's body.

    telemetry,device=d7kq3…,name=cpu/load,unit=%25 value=12.5,flags=0i 1790000000000123456

Measurement ``telemetry``; tags device, name, unit (left out when empty); fields ``value`` (always a float, so
that a series never changes its type), ``value_bool`` or ``value_text``, and ``flags`` (integer). Integers
beyond 2**53 lose precision in ``value``.

Does not: send anything. It is an f-string because that takes 0.65 us a point where influxdb-client's Point
takes 5.7.

Rules it keeps (threat 20): one point is one line, whatever its text. Servers differ in how they read a line
break within quotes (VictoriaMetrics 1.79 ends the line there, so that the rest of a text would be taken for a
point of any device). So no control character is ever sent: a text's backslashes, control characters and line
separators travel as JSON-like escapes, ``\\\\`` and ``\\uXXXX``, which ``decode_text`` undoes. A tag can't
end in a backslash or hold one safely, and units are ASCII, so a backslash in a unit travels as U+2216, which
``decode_unit`` undoes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from surge_backend.telemetry.points import Point

MEASUREMENT: Final = "telemetry"
_UNITS_CACHED_MAX: Final = 1024  # distinct units whose escaped form is kept; the oldest is made again

_UNSAFE_TEXT: Final = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPE: Final = re.compile(r"\\(?:\\|u([0-9a-f]{4}))")
_BACKSLASH_IN_UNIT: Final = "\u2216"
_UNIT_ESCAPES: Final = str.maketrans({"\\": _BACKSLASH_IN_UNIT, ",": "\\,", " ": "\\ ", "=": "\\="})


def encode_points(points: Iterable[Point]) -> bytes:
    """The points as a request body: one line each, separated by line feeds."""
    return "\n".join([encode_point(point) for point in points]).encode()


def encode_point(point: Point) -> str:
    """The point as one line, without a line feed at its end. A Point is valid by construction, so this can't
    fail."""
    value = point.value
    if value is True:
        field = "value_bool=true"
    elif value is False:
        field = "value_bool=false"
    elif isinstance(value, str):
        quoted = encode_text(value).replace("\\", "\\\\").replace('"', '\\"')
        field = f'value_text="{quoted}"'
    else:
        field = f"value={float(value)!r}"
    unit = _unit_tag(point.unit)
    # Ids and names come from alphabets that need no escape.
    series = f"{MEASUREMENT},device={point.device_id},name={point.name}{unit}"
    return f"{series} {field},flags={point.flags}i {point.time_ns}"


@lru_cache(maxsize=_UNITS_CACHED_MAX)
def _unit_tag(unit: str) -> str:
    return f",unit={unit.translate(_UNIT_ESCAPES)}" if unit else ""


def decode_unit(tag: str | None) -> str:
    """The unit whose tag a store returned; a missing tag is no unit."""
    return (tag or "").replace(_BACKSLASH_IN_UNIT, "\\")


def encode_text(text: str) -> str:
    """``text`` with backslashes, control characters and line separators as escapes: one line of visible
    text."""
    return _UNSAFE_TEXT.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return "\\\\" if character == "\\" else f"\\u{ord(character):04x}"


def decode_text(stored: str) -> str:
    """What ``encode_text`` was given; an escape that it never makes is left as it is."""
    return _ESCAPE.sub(_unescape, stored)


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else "\\"
