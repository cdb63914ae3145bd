"""The boots of all devices as one relation: the newest of each stands in its totals, the others apart.

Place in the flow: other queries and checks select from `BOOTS`, or from `BOOTS_SQL` where they are text.
"""

from typing import Final

from sqlalchemy import select, union_all

from surge_backend.db.schema import device_boots, device_totals

_COUNTED: Final = ("reports", "samples", "bytes")

_newest = select(
    *(
        device_totals.c.boot_max.label("boot")
        if column.name == "boot"
        else device_totals.c["boot_" + column.name].label(column.name)
        if column.name in _COUNTED
        else device_totals.c[column.name]
        for column in device_boots.columns
    )
)

# With the columns of ``device_boots``.
_both: Final = union_all(_newest, select(device_boots))
BOOTS: Final = _both.subquery("boots")
BOOTS_SQL: Final = f"({_both}) AS boots"
