"""Identities: a letter for the kind and 80 random bits in lower-case base32 (RFC 4648 section 6, no padding).

The alphabet is safe as an MQTT topic level, a NATS subject token, a file name, a SenML name and a tag of
the line protocol, so no id is ever escaped anywhere (threat 17).
"""

from .errors import DecodeError, EncodeError
from .limits import ID_LEN

DEVICE = "d"
GATEWAY = "g"
OWNER = "o"

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def make_id(kind: str, random: bytes) -> str:
    """An id of ``kind`` (DEVICE, GATEWAY, OWNER) from 10 random bytes."""
    if kind not in (DEVICE, GATEWAY, OWNER) or len(random) != 10:
        raise EncodeError("id needs a kind and 10 bytes")
    number = int.from_bytes(random, "big")
    return kind + "".join([_ALPHABET[(number >> shift) & 31] for shift in range(75, -1, -5)])


def is_id(kind: str, text: object) -> bool:
    """Whether ``text`` is an id of ``kind``."""
    if type(text) is not str or len(text) != ID_LEN or text[0] != kind:
        return False
    for i in range(1, ID_LEN):  # noqa: SIM110: an index costs no allocation on a board
        if text[i] not in _ALPHABET:
            return False
    return True


def decode_id(kind: str, data: bytes) -> str:
    """The id in ``data`` (a COSE key identifier), or DecodeError."""
    if len(data) == ID_LEN:
        try:
            text = bytes(data).decode()
        except UnicodeError:
            raise DecodeError("id not valid")  # noqa: B904: MicroPython keeps no cause
        if is_id(kind, text):
            return text
    raise DecodeError("id not valid")
