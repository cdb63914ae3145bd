"""How many series one device may have in the telemetry store: its first so many, in the order of the log.

Place in the flow: ``source`` passes the points of every read through here, before the projector has them.

Does not: change what a device is paid. A point that is left out here stays in its batch.

Rules it keeps:

* a series is a device, a name and a unit. A device's first ``series_max`` are kept in ``telemetry_series``;
  points of any further one are left out and counted. Otherwise one device could fill the store's index;
* the same points come out however often a batch is read, and after a rebuild (invariant 5): what is admitted
  depends on the log alone, because series are admitted in its order, and stored before their points are;
* a rebuild starts the series over (`StoredCursor` does, with the cursor). Another ``series_max`` counts for
  new series from then on, and for all of them after a rebuild.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from surge_backend.db.bulk import insert_missing, select_by_keys
from surge_backend.db.engine import Database
from surge_backend.db.schema import telemetry_series
from surge_backend.telemetry.points import Point

TELEMETRY_SERIES_MAX: Final = 256  # of one device; points of any further series are left out and counted
SERIES_REMEMBERED_MAX: Final = 200_000  # about 50 MB; past it all are forgotten, and read again when needed

_COLUMNS: Final = ("device_id", "name", "unit", "log_index")
_ADMITTED: Final = (
    "SELECT device_id, name, unit FROM telemetry_series WHERE (device_id, name, unit) IN ({keys})"
)
_COUNTS: Final = (
    "SELECT device_id, count(*) FROM telemetry_series WHERE device_id IN ({keys}) GROUP BY device_id"
)

Series = tuple[str, str, str]  # device, name, unit


class SeriesBound:
    """Admits series. Used by one reader at a time."""

    def __init__(
        self, database: Database, series_max: int, remembered_max: int = SERIES_REMEMBERED_MAX
    ) -> None:
        self._database = database
        self._series_max = series_max
        self._remembered_max = remembered_max
        self._admitted: set[Series] = set()

    def forget(self) -> None:
        """Ask the database again from now on."""
        self._admitted = set()

    def admit(self, batches: Sequence[tuple[int, Sequence[Point]]]) -> list[list[Point]]:
        """Of every batch ``(log index, points)``, the points whose series is admitted; batches rise.

        Raises StoreBusy, StoreFull, and then nothing is admitted that wasn't before.
        """
        unknown: dict[Series, int] = {}  # where each stands first, in the order of the log
        for log_index, points in batches:
            for point in points:
                series = (point.device_id, point.name, point.unit)
                if series not in self._admitted:
                    unknown.setdefault(series, log_index)
        if unknown:
            self._admitted |= self._decide(unknown)
        kept = [
            [point for point in points if (point.device_id, point.name, point.unit) in self._admitted]
            for _, points in batches
        ]
        if len(self._admitted) > self._remembered_max:
            self.forget()
        return kept

    def _decide(self, unknown: dict[Series, int]) -> set[Series]:
        with self._database.read() as connection:
            found = _read(connection, unknown)
            devices = {(device_id,) for device_id, _, _ in unknown.keys() - found}
            counts: dict[str, int] = dict(select_by_keys(connection, _COUNTS, devices))
        new = []
        for series, log_index in unknown.items():
            count = counts.get(series[0], 0)
            if series not in found and count < self._series_max:
                counts[series[0]] = count + 1
                new.append((*series, log_index))
        if new:
            with self._database.write() as connection:
                insert_missing(connection, telemetry_series, _COLUMNS, new)
        return found | {row[:3] for row in new}


def _read(connection: Connection, wanted: dict[Series, int]) -> set[Series]:
    return {(row[0], row[1], row[2]) for row in select_by_keys(connection, _ADMITTED, wanted)}
