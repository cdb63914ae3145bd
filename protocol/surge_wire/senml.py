"""SenML packs (RFC 8428) in CBOR with integer labels (section 6, table 4).

``make_record`` makes what boards send: one map per record with name, unit, value and, where it differs from
the report's own moment, a time. ``resolve_pack`` reads any pack of the CBOR subset, base fields included
(section 4.6), and gives flat records.

Left out: data values (vd), which have no place in a time series, and decimal fractions (tag 4).
"""

from .errors import DecodeError, EncodeError
from .limits import NAME_LEN_MAX, RECORDS_MAX, TEXT_VALUE_LEN_MAX, UNIT_LEN_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BASE_VERSION = -1
BASE_NAME = -2
BASE_TIME = -3
BASE_UNIT = -4
BASE_VALUE = -5
BASE_SUM = -6
NAME = 0
UNIT = 1
VALUE = 2
TEXT = 3
BOOL = 4
SUM = 5
TIME = 6
UPDATE_TIME = 7

VERSION = 10  # RFC 8428 section 4.4: the version when none is given; a higher one must be refused
ABSOLUTE_TIME_S = 1 << 28  # section 4.5.3: smaller times are relative to now

_LABELS = frozenset(
    (BASE_VERSION, BASE_NAME, BASE_TIME, BASE_UNIT, BASE_VALUE, BASE_SUM)
    + (NAME, UNIT, VALUE, TEXT, BOOL, SUM, TIME, UPDATE_TIME)
)
_NAME_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAME_ALPHABET = frozenset(_NAME_FIRST + "-:./_")


class Record:
    """A resolved record; times as in the RFC. ``value`` is None only where ``sum`` is set."""

    __slots__ = ("name", "sum", "time_s", "unit", "update_time_s", "value")

    def __init__(
        self,
        name: str,
        unit: str,
        value: "int | float | bool | str | None",
        time_s: "int | float" = 0,
        sum: "int | float | None" = None,
        update_time_s: "int | float | None" = None,
    ) -> None:
        self.name = name
        self.unit = unit
        self.value = value
        self.time_s = time_s
        self.sum = sum
        self.update_time_s = update_time_s


def name_valid(name: str) -> bool:
    """Whether ``name`` is a SenML name (section 4.5.1) of bounded length."""
    if not 0 < len(name) <= NAME_LEN_MAX or name[0] not in _NAME_FIRST:
        return False
    for character in name:  # noqa: SIM110: a generator costs an allocation on a board
        if character not in _NAME_ALPHABET:
            return False
    return True


def make_record(
    name: str, unit: str, value: "int | float | bool | str", time_s: "int | float" = 0
) -> "dict[int, Any]":
    """One record as the map that goes on the wire; ``time_s`` 0, the report's own moment, is left out."""
    if not name_valid(name):
        raise EncodeError("name not valid", name)
    record: "dict[int, Any]" = {NAME: name}
    if unit:
        if len(unit) > UNIT_LEN_MAX:
            raise EncodeError("unit too long", unit)
        record[UNIT] = unit
    kind = type(value)
    if kind is bool:
        record[BOOL] = value
    elif kind is str:
        if len(value) > TEXT_VALUE_LEN_MAX:  # type: ignore[arg-type]
            raise EncodeError("text too long", name)
        record[TEXT] = value
    elif kind is int or kind is float:
        record[VALUE] = value
    else:
        raise EncodeError("value of the wrong type", name)
    if time_s:
        record[TIME] = time_s
    return record


def _number(record: "dict[int, Any]", label: int, default: "int | float | None") -> "Any":
    value = record.get(label, default)
    if value is not None and type(value) is not int and type(value) is not float:
        raise DecodeError("SenML number of the wrong type")
    return value


def _text(record: "dict[int, Any]", label: int, default: str, len_max: int) -> str:
    value = record.get(label, default)
    if type(value) is not str or len(value) > len_max:
        raise DecodeError("SenML text of the wrong type or too long")
    return value


def _no_overflow(value: "int | float") -> "int | float":
    if type(value) is float and value - value != 0.0:
        raise DecodeError("SenML sum out of range")
    return value


def _value(record: "dict[int, Any]", base_value: "int | float") -> "Any":
    """The one value of a record, or None; two values are an error (section 4.2)."""
    value = _number(record, VALUE, None)
    if value is not None and base_value:
        value = _no_overflow(value + base_value)
    elif value is None and base_value and TEXT not in record and BOOL not in record:
        value = base_value
    count = 0 if value is None else 1
    if TEXT in record:
        value = _text(record, TEXT, "", TEXT_VALUE_LEN_MAX)
        count += 1
    if BOOL in record:
        value = record[BOOL]
        if type(value) is not bool:
            raise DecodeError("SenML number of the wrong type")
        count += 1
    if count > 1:
        raise DecodeError("SenML record with two values")
    return value


def resolve_pack(pack: "Any") -> "list[Record]":
    """Flatten a decoded pack into at most RECORDS_MAX records (section 4.6). Raises DecodeError."""
    if type(pack) is not list or not 0 < len(pack) <= RECORDS_MAX:
        raise DecodeError("SenML pack must be an array of 1 to 64 records")
    base_name = ""
    base_unit = ""
    base_time: "int | float" = 0
    base_value: "int | float" = 0
    base_sum: "int | float" = 0
    records = []
    for record in pack:
        if type(record) is not dict:
            raise DecodeError("SenML record not a map")
        for label in record:
            if label not in _LABELS:
                raise DecodeError("SenML label not known", -1, str(label))
        version = record.get(BASE_VERSION, VERSION)
        if type(version) is not int or not 0 < version <= VERSION:
            raise DecodeError("SenML version not known")
        base_name = _text(record, BASE_NAME, base_name, NAME_LEN_MAX)
        base_unit = _text(record, BASE_UNIT, base_unit, UNIT_LEN_MAX)
        base_time = _number(record, BASE_TIME, base_time)
        base_value = _number(record, BASE_VALUE, base_value)
        base_sum = _number(record, BASE_SUM, base_sum)
        name = base_name + _text(record, NAME, "", NAME_LEN_MAX)
        if not name_valid(name):
            raise DecodeError("SenML name not valid")
        value = _value(record, base_value)
        total = _number(record, SUM, None)
        if total is not None or base_sum:
            total = _no_overflow((total or 0) + base_sum)
        if value is None and total is None:
            raise DecodeError("SenML record without a value")
        time_s = _no_overflow(base_time + _number(record, TIME, 0))
        update = _number(record, UPDATE_TIME, None)
        records.append(
            Record(name, _text(record, UNIT, base_unit, UNIT_LEN_MAX), value, time_s, total, update)
        )
    return records
