"""The CBOR subset in plain Python: encoder for both interpreters, decoder for MicroPython.

Subset (spec/cbor.md): unsigned and negative integers up to 64 bits, byte strings, text strings, arrays,
maps with integer keys, floats that are finite, false, true, null. No tags (the COSE envelopes carry theirs
outside this codec), no indefinite lengths, no other simple values.

Writer: deterministic encoding, RFC 8949 section 4.2.1 (shortest heads, shortest float, keys in bytewise
order). Reader: well-formed and valid in the sense of RFC 8949 section 5.3.1, bounded, no duplicate keys,
nothing after the item. It does not insist on shortest heads: nothing is ever re-encoded, exact bytes are
what is signed.
"""

import struct

from .errors import DecodeError, EncodeError
from .limits import CBOR_DEPTH_MAX, CBOR_LEN_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UINT64_LIMIT = 1 << 64


def encode_head(out: bytearray, major: int, argument: int) -> None:
    """Append the shortest head for ``major`` (0..7) and ``argument`` (0..2**64-1) to ``out``."""
    major <<= 5
    if argument < 24:
        out.append(major | argument)
    elif argument < 0x100:
        out.append(major | 24)
        out.append(argument)
    elif argument < 0x10000:
        out.extend(struct.pack(">BH", major | 25, argument))
    elif argument < 0x100000000:
        out.extend(struct.pack(">BI", major | 26, argument))
    elif argument < _UINT64_LIMIT:
        out.extend(struct.pack(">BQ", major | 27, argument))
    else:
        raise EncodeError("integer too large")


def _half_bits(single_bits: int) -> int:
    """The binary16 bits of a finite binary32 value, or -1 where it would lose something."""
    sign = (single_bits >> 16) & 0x8000
    exponent = ((single_bits >> 23) & 0xFF) - 127
    mantissa = single_bits & 0x7FFFFF
    if exponent == -127:
        return sign if mantissa == 0 else -1
    if -14 <= exponent <= 15:
        return -1 if mantissa & 0x1FFF else sign | ((exponent + 15) << 10) | (mantissa >> 13)
    if -24 <= exponent < -14:
        shift = -1 - exponent
        mantissa |= 0x800000
        return -1 if mantissa & ((1 << shift) - 1) else sign | (mantissa >> shift)
    return -1


def encode_float(out: bytearray, value: float) -> None:
    """Append ``value`` as the shortest of binary16, binary32, binary64 that keeps it (RFC 8949, 4.2.2)."""
    if value - value != 0.0:
        raise EncodeError("float not finite")
    single = b""
    try:
        single = struct.pack(">f", value)
    except OverflowError:  # CPython; MicroPython packs an infinity, which isn't equal either
        pass
    if not single or struct.unpack(">f", single)[0] != value:
        out.append(0xFB)
        out.extend(struct.pack(">d", value))
        return
    half = _half_bits(struct.unpack(">I", single)[0])
    if half < 0:
        out.append(0xFA)
        out.extend(single)
    else:
        out.extend(struct.pack(">BH", 0xF9, half))


def _encode_item(out: bytearray, value: "Any", depth: int) -> None:
    kind = type(value)
    if kind is int:
        if value >= 0:
            encode_head(out, 0, value)
        else:
            encode_head(out, 1, -1 - value)
    elif kind is str:
        data = value.encode()
        encode_head(out, 3, len(data))
        out.extend(data)
    elif kind is bytes or kind is bytearray or kind is memoryview:
        encode_head(out, 2, len(value))
        out.extend(value)
    elif kind is list or kind is tuple:
        if depth <= 0:
            raise EncodeError("nested too deep")
        encode_head(out, 4, len(value))
        for item in value:
            _encode_item(out, item, depth - 1)
    elif kind is dict:
        if depth <= 0:
            raise EncodeError("nested too deep")
        encode_head(out, 5, len(value))
        # Bytewise order of encoded integer keys: all unsigned ones, rising, then the negative ones, falling.
        for key in sorted(value, key=_key_order):
            _encode_item(out, key, 0)
            _encode_item(out, value[key], depth - 1)
    elif value is None:
        out.append(0xF6)
    elif value is True:
        out.append(0xF5)
    elif value is False:
        out.append(0xF4)
    elif kind is float:
        encode_float(out, value)
    else:
        raise EncodeError("type not in the subset", str(kind))


def _key_order(key: "Any") -> int:
    if type(key) is not int:
        raise EncodeError("map key not an integer")
    return int(key) if key >= 0 else _UINT64_LIMIT - key


def encode(value: "Any") -> bytes:
    """Encode ``value`` deterministically. Raises EncodeError for what the subset does not hold."""
    out = bytearray()
    _encode_item(out, value, CBOR_DEPTH_MAX)
    return bytes(out)


def utf8_valid(data: "bytes | memoryview") -> bool:
    """Whether ``data`` is UTF-8 as RFC 3629 section 4 defines it (no overlong forms, no surrogates).

    MicroPython's own check is weaker, so both interpreters use this one for text that is not ASCII.
    """
    i = 0
    n = len(data)
    while i < n:
        lead = data[i]
        i += 1
        if lead < 0x80:
            continue
        if 0xC2 <= lead <= 0xDF:
            more, low, high = 1, 0x80, 0xBF
        elif 0xE0 <= lead <= 0xEF:
            more, low, high = 2, 0xA0 if lead == 0xE0 else 0x80, 0x9F if lead == 0xED else 0xBF
        elif 0xF0 <= lead <= 0xF4:
            more, low, high = 3, 0x90 if lead == 0xF0 else 0x80, 0x8F if lead == 0xF4 else 0xBF
        else:
            return False
        if i + more > n or not low <= data[i] <= high:
            return False
        for k in range(i + 1, i + more):
            if not 0x80 <= data[k] <= 0xBF:
                return False
        i += more
    return True


class _Reader:
    """One pass over ``data``; every length is checked against what is left before anything is made."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def head(self) -> "tuple[int, int, int]":
        """Read one head: (major type, additional information, argument)."""
        data = self.data
        at = self.at
        if at >= len(data):
            raise DecodeError("truncated", at)
        major = data[at] >> 5
        info = data[at] & 31
        at += 1
        if info < 24:
            argument = info
        elif info < 28:
            size = 1 << (info - 24)
            if at + size > len(data):
                raise DecodeError("truncated", at)
            argument = int.from_bytes(data[at : at + size], "big")
            at += size
        elif info == 31:
            raise DecodeError("indefinite length", self.at)
        else:
            raise DecodeError("reserved head", self.at)
        self.at = at
        return major, info, argument

    def take(self, size: int) -> bytes:
        at = self.at
        if size > len(self.data) - at:
            raise DecodeError("truncated", at)
        self.at = at + size
        return self.data[at : at + size]

    def item(self, depth: int) -> "Any":
        start = self.at
        major, info, argument = self.head()
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return self.take(argument)
        if major == 3:
            text = self.take(argument)
            if not utf8_valid(text):
                raise DecodeError("text not UTF-8", start)
            return text.decode()
        if major == 4 or major == 5:
            if depth <= 0:
                raise DecodeError("nested too deep", start)
            if argument * (major - 3) > len(self.data) - self.at:
                raise DecodeError("truncated", start)
            return self.array(argument, depth - 1) if major == 4 else self.map(argument, depth - 1)
        if major == 7:
            return self.simple_or_float(info, argument, start)
        raise DecodeError("tag not allowed", start)

    def array(self, count: int, depth: int) -> "list[Any]":
        return [self.item(depth) for _ in range(count)]

    def map(self, count: int, depth: int) -> "dict[int, Any]":
        found = {}
        for _ in range(count):
            start = self.at
            major, _info, argument = self.head()
            if major > 1:
                raise DecodeError("map key not an integer", start)
            key = argument if major == 0 else -1 - argument
            if key in found:
                raise DecodeError("duplicate key", start)
            found[key] = self.item(depth)
        return found

    def simple_or_float(self, info: int, argument: int, start: int) -> "Any":
        if info == 20:
            return False
        if info == 21:
            return True
        if info == 22:
            return None
        if info == 25:
            value = _half_value(argument)
        elif info == 26:
            value = struct.unpack(">f", self.data[self.at - 4 : self.at])[0]
        elif info == 27:
            value = struct.unpack(">d", self.data[self.at - 8 : self.at])[0]
        else:
            raise DecodeError("simple value not allowed", start)
        if value - value != 0.0:
            raise DecodeError("float not finite", start)
        return value


def _half_value(bits: int) -> float:
    exponent = (bits >> 10) & 31
    mantissa = bits & 0x3FF
    if exponent == 31:
        return float("nan")
    value = mantissa * 2.0**-24 if exponent == 0 else (mantissa + 1024) * 2.0 ** (exponent - 25)
    return -value if bits & 0x8000 else value


def decode(data: bytes) -> "Any":
    """Decode exactly one item. Raises DecodeError for anything else, and nothing else."""
    if len(data) > CBOR_LEN_MAX:
        raise DecodeError("too long")
    reader = _Reader(data)
    value = reader.item(CBOR_DEPTH_MAX)
    if reader.at != len(data):
        raise DecodeError("bytes after the item", reader.at)
    return value
