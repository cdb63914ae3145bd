"""Counting a pack's samples: everything that ``surge_wire.senml`` requires, and units from the registry.

Place in the flow: ``reading`` counts what will be paid; ``projection`` resolves the same pack later.

Does not: build records. Boards send plain ones (name, unit, number), and looking at those in place is six
times as fast as resolving them; anything else goes through ``resolve_pack``. A test holds both ways together.

Rules it keeps: a unit that SenML's registry lacks makes the report malformed, with the unit in the reason.
Otherwise the store would hold series that nobody can interpret, and a second one once the board is put right.
"""

from typing import Any, Final

from surge_wire.errors import DecodeError
from surge_wire.limits import RECORDS_MAX
from surge_wire.senml import NAME, TIME, UNIT, VALUE, name_valid, resolve_pack
from surge_wire.units import REGISTERED

NAMES_REMEMBERED_MAX: Final = 10_000  # valid names seen; when full, all are forgotten and learnt again

_PLAIN: Final = frozenset((NAME, UNIT, VALUE, TIME))
_UNITS: Final = REGISTERED | {""}
_names: set[str] = set()  # remembers only what is always true of a name, so sharing it changes nothing


def count_samples(pack: Any) -> int:
    """How many samples ``pack`` holds. Raises DecodeError if it breaks a rule."""
    if type(pack) is not list or not 0 < len(pack) <= RECORDS_MAX:
        raise DecodeError("SenML pack must be an array of 1 to 64 records")
    for record in pack:
        if not _plain(record):
            return _count_resolved(pack)
    return len(pack)


def _plain(record: Any) -> bool:
    """Whether ``record`` is surely a sample on its own: no base fields, a name, a registered unit, a
    number."""
    if type(record) is not dict or not record.keys() <= _PLAIN:
        return False
    name = record.get(NAME)
    if type(name) is not str or (name not in _names and not _learn(name)):
        return False
    if type(record.get(VALUE)) not in _NUMBERS or type(record.get(TIME, 0)) not in _NUMBERS:
        return False
    unit = record.get(UNIT, "")
    return type(unit) is str and unit in _UNITS


_NUMBERS: Final = frozenset((int, float))


def _learn(name: str) -> bool:
    if not name_valid(name):
        return False
    if len(_names) >= NAMES_REMEMBERED_MAX:
        _names.clear()
    _names.add(name)
    return True


def _count_resolved(pack: Any) -> int:
    records = resolve_pack(pack)
    for record in records:
        if record.unit not in _UNITS:
            raise DecodeError("unit not in SenML's registry", -1, record.unit)
    return len(records)
