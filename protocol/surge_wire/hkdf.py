"""HMAC-SHA-256 (RFC 2104) and HKDF-SHA-256 (RFC 5869), and the three keys that come from one device secret.

MicroPython has SHA-256 but no HMAC; CPython uses the C implementation of its standard library.
"""

import hashlib

from .errors import EncodeError
from .limits import HASH_LEN, KEY_LEN, SECRET_LEN

INFO_REPORT = b"surge/1 report"
INFO_COMMAND = b"surge/1 command"
INFO_MQTT = b"surge/1 mqtt"

try:
    from hmac import digest as _hmac_digest

    def hmac_sha256(key: bytes, message: bytes) -> bytes:
        """HMAC-SHA-256 of ``message`` under ``key``: 32 bytes."""
        return _hmac_digest(key, message, "sha256")

except ImportError:
    _BLOCK_LEN = 64

    def hmac_sha256(key: bytes, message: bytes) -> bytes:
        """HMAC-SHA-256 of ``message`` under ``key``: 32 bytes."""
        if len(key) > _BLOCK_LEN:
            key = hashlib.sha256(key).digest()
        pad = bytearray(_BLOCK_LEN)
        pad[: len(key)] = key
        for i in range(_BLOCK_LEN):
            pad[i] ^= 0x36
        inner = hashlib.sha256(pad)
        inner.update(message)
        for i in range(_BLOCK_LEN):
            pad[i] ^= 0x36 ^ 0x5C
        outer = hashlib.sha256(pad)
        outer.update(inner.digest())
        return outer.digest()


def _equal(a: bytes, b: bytes) -> bool:
    if len(a) != len(b):
        return False
    difference = 0
    for i in range(len(a)):
        difference |= a[i] ^ b[i]
    return difference == 0


try:
    from hmac import compare_digest as _equal  # type: ignore[assignment]  # noqa: F811
except ImportError:
    pass


def equal_in_constant_time(a: bytes, b: bytes) -> bool:
    """Whether two byte strings are equal; the time taken doesn't tell where they differ."""
    return _equal(a, b)


def hkdf_sha256(secret: bytes, salt: bytes, info: bytes, length: int = KEY_LEN) -> bytes:
    """Derive ``length`` bytes (at most 255 * 32) from ``secret`` (RFC 5869 sections 2.2 and 2.3)."""
    if not 0 < length <= 255 * HASH_LEN:
        raise EncodeError("length out of range")
    pseudo_random_key = hmac_sha256(salt or bytes(HASH_LEN), secret)
    out = b""
    block = b""
    counter = 1
    while len(out) < length:
        block = hmac_sha256(pseudo_random_key, block + info + bytes((counter,)))
        out += block
        counter += 1
    return out[:length]


def derive_key(secret: bytes, info: bytes) -> bytes:
    """The device's key for one purpose: ``info`` is INFO_REPORT, INFO_COMMAND or INFO_MQTT."""
    if len(secret) != SECRET_LEN:
        raise EncodeError("secret must be 32 bytes")
    return hkdf_sha256(secret, b"", info)


def mqtt_password(secret: bytes) -> str:
    """The device's MQTT password: its MQTT key in base64url without padding, 43 characters."""
    from binascii import b2a_base64

    text = b2a_base64(derive_key(secret, INFO_MQTT)).decode()
    return text.strip().replace("+", "-").replace("/", "_").replace("=", "")
