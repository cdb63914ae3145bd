"""Checks that every message decoder shares: a field is there, of the exact type and within its bound."""

from .errors import DecodeError, EncodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def map_of(value: "Any", allowed: "frozenset[int]") -> "dict[int, Any]":
    """``value`` as a map whose labels are all ``allowed``; an unknown label means a newer wire version."""
    if type(value) is not dict:
        raise DecodeError("message not a map")
    for label in value:
        if label not in allowed:
            raise DecodeError("label not known", -1, str(label))
    return value


def uint(fields: "dict[int, Any]", label: int, maximum: int) -> int:
    """The unsigned integer at ``label``, at most ``maximum``."""
    value = fields.get(label)
    if type(value) is not int or not 0 <= value <= maximum:
        raise DecodeError("field missing or out of range", -1, str(label))
    return value


def uint_or_none(fields: "dict[int, Any]", label: int, maximum: int) -> "int | None":
    """The unsigned integer at ``label``, None where the label is absent."""
    return uint(fields, label, maximum) if label in fields else None


def octets(fields: "dict[int, Any]", label: int, length: int) -> bytes:
    """The byte string of exactly ``length`` bytes at ``label``."""
    value = fields.get(label)
    if type(value) is not bytes or len(value) != length:
        raise DecodeError("field missing or of the wrong length", -1, str(label))
    return value


def array(fields: "dict[int, Any]", label: int, count_max: int) -> "list[Any]":
    """The array of at most ``count_max`` items at ``label``; absent is empty."""
    value = fields.get(label, [])
    if type(value) is not list or len(value) > count_max:
        raise DecodeError("field not an array or too many items", -1, str(label))
    return value


def text(value: "Any", length_max: int) -> str:
    """``value`` as text of at most ``length_max`` characters."""
    if type(value) is not str or len(value) > length_max:
        raise DecodeError("text missing or too long")
    return value


def check_uint(value: int, maximum: int, name: str) -> int:
    """For encoders: ``value`` if it is an integer from 0 to ``maximum``."""
    if type(value) is not int or not 0 <= value <= maximum:
        raise EncodeError("value out of range", name)
    return value


def ranges(value: "Any", count_max: int, number_max: int) -> "list[tuple[int, int]]":
    """``[[first, last], ...]``: rising, not touching, at most ``count_max``."""
    if type(value) is not list or len(value) > count_max:
        raise DecodeError("ranges not an array or too many")
    found = []
    floor = -1
    for pair in value:
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not int or type(pair[1]) is not int:
            raise DecodeError("range not a pair")
        first, last = pair
        if not floor < first <= last <= number_max:
            raise DecodeError("ranges not rising")
        floor = last + 1
        found.append((first, last))
    return found
