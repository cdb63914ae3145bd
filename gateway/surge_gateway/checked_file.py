"""Small files with a check sum in front: chain state, sealed batches, the last log head.

Place in the flow: between `files.write_atomically` and what the file says. Pure. Rule kept: bytes that
don't match their check sum are never interpreted.
"""

import hashlib
from typing import Any

from surge_wire.cbor import decode, encode
from surge_wire.errors import DecodeError

CHECK_LEN = 32


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
