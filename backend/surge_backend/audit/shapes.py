"""Shapes of decoded items: which types stand where, one letter for each.

Place in the flow: ``items`` checks everything that it decodes with these, before any of it is used.

i an integer, I one or null, t text, T text or null, b a byte string, o true or false, a an array, A one or
null, m a map.
"""

from typing import Any, Final

from surge_wire.errors import DecodeError

TEXT_LEN_MAX: Final = 64

Row = tuple[Any, ...]

_TYPES: Final = {
    "i": (int,),
    "I": (int, type(None)),
    "t": (str,),
    "T": (str, type(None)),
    "b": (bytes,),
    "o": (bool,),
    "a": (list,),
    "A": (list, type(None)),
    "m": (dict,),
}
_TEXTS: Final = frozenset("tT")


def check_shape(values: Any, shape: str) -> None:
    """Raises DecodeError unless ``values`` are an array of just these types, its texts short."""
    if type(values) is not list or len(values) != len(shape):
        raise DecodeError("item not of its shape")
    for value, letter in zip(values, shape, strict=True):
        if type(value) not in _TYPES[letter]:
            raise DecodeError("item not of its shape", -1, type(value).__name__)
        if letter in _TEXTS and value is not None and len(value) > TEXT_LEN_MAX:
            raise DecodeError("text too long")


def check_rows(values: list[Any], shape: str, count_max: int | None = None) -> list[Row]:
    """The rows of an array, each of ``shape``. Raises DecodeError."""
    if count_max is not None and len(values) > count_max:
        raise DecodeError("too many rows")
    for row in values:
        check_shape(row, shape)
    return [tuple(row) for row in values]
