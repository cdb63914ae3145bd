"""Files with a check sum in front: chain state, sealed batches, the last log head; as text the registry's
cache and the identity.

Place in the flow: between `files.write_atomically` and what the file says. Pure. Rule kept: bytes that
don't match their check sum are never interpreted.
"""

import hashlib
from typing import Any

from surge_wire.cbor import decode, encode
from surge_wire.errors import DecodeError

CHECK_LEN = 32
_LINE_LEN = 2 * CHECK_LEN


def encode_checked(fields: dict[int, Any]) -> bytes:
    """SHA-256 of the CBOR bytes, then the CBOR bytes."""
    body = encode(fields)
    return hashlib.sha256(body).digest() + body


def decode_checked(data: bytes) -> dict[int, Any]:
    """The map that `encode_checked` was given. Raises DecodeError."""
    body = data[CHECK_LEN:]
    if len(data) <= CHECK_LEN or hashlib.sha256(body).digest() != data[:CHECK_LEN]:
        raise DecodeError("check sum not valid")
    fields = decode(body)
    if type(fields) is not dict:
        raise DecodeError("message not a map")
    return fields


def add_check_line(text: bytes) -> bytes:
    """SHA-256 of `text` in hexadecimal digits, on a line of its own, then `text`."""
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def open_check_line(data: bytes) -> bytes:
    """The text that `add_check_line` was given. Raises ValueError."""
    text = data[_LINE_LEN + 1 :]
    if data != add_check_line(text):
        raise ValueError("check sum not valid")
    return text
