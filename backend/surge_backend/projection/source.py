"""Stored batches as the projector's source, and its cursor.

Place in the flow: between the database and ``telemetry.projector``.

Rules it keeps: batches come in the order of the log, from committed transactions only; a position is
``log_index + 1``, because the projector counts from 1. The database blocks, so both work in a thread. A busy
database is StoreUnavailable: the projector tries again without end. What is left out is told, by reason; what
is read again is told again.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from sqlalchemy import delete, select

from surge_backend.db.bulk import put_rows
from surge_backend.db.engine import Database
from surge_backend.db.schema import batches, projector_state, telemetry_series
from surge_backend.errors import StoreBusy, StoreFull
from surge_backend.projection.points import batch_points
from surge_backend.projection.series import TELEMETRY_SERIES_MAX, SeriesBound
from surge_backend.telemetry.points import Point
from surge_backend.telemetry.projection import CURSOR_START
from surge_backend.telemetry.store import StoreUnavailable
from surge_wire.cbor import decode
from surge_wire.settlement import decode_settlement

# Batches read at once. A full one may hold 10,000 reports of 64 records: 640,000 points, some 150 MB, so not
# many more.
ENTRIES_MAX: Final = 4
CURSOR_NAME: Final = "telemetry"

# Why a value has no point in the store.
UNFIT: Final = "unfit"  # no point can carry it
SERIES_LIMIT: Final = "series_limit"  # its device has as many series as it may

T = TypeVar("T")


def ignore_left_out(reason: str, count: int) -> None:
    """What ``on_left_out`` does unless it is given."""


class StoredPoints:
    """The projector's source. ``on_left_out(reason, count)`` is told of values without a point, in whichever
    thread reads."""

    def __init__(
        self,
        database: Database,
        series_max: int = TELEMETRY_SERIES_MAX,
        on_left_out: Callable[[str, int], None] = ignore_left_out,
    ) -> None:
        self._database = database
        self._series = SeriesBound(database, series_max)
        self._on_left_out = on_left_out

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[Point]]]:
        """The points of the first ``limit`` batches after position ``after``."""
        return await _in_thread(lambda: self._read(after, limit))

    def _read(self, after: int, limit: int) -> list[tuple[int, Sequence[Point]]]:
        with self._database.read() as connection:
            rows = connection.execute(
                select(
                    batches.c.log_index, batches.c.envelope, batches.c.settlement, batches.c.window_devices
                )
                .where(batches.c.log_index >= after)
                .order_by(batches.c.log_index)
                .limit(limit)
            ).all()
        if after == CURSOR_START:
            self._series.forget()  # they may have been started over, with the cursor
        made: list[tuple[int, Sequence[Point]]] = []
        unfit = 0
        for row in rows:
            allowed = frozenset(decode(row.window_devices)) if row.window_devices else frozenset()
            batch = batch_points(row.envelope, decode_settlement(row.settlement), allowed)
            unfit += batch.left_out
            made.append((row.log_index, batch.points))
        admitted = self._series.admit(made)
        beyond = sum(len(points) for _, points in made) - sum(len(points) for points in admitted)
        for reason, count in ((UNFIT, unfit), (SERIES_LIMIT, beyond)):
            if count:
                self._on_left_out(reason, count)
        return [(log_index + 1, points) for (log_index, _), points in zip(made, admitted, strict=True)]


class StoredCursor:
    """The projector's cursor, in ``projector_state``. To start it over is to start the series over."""

    def __init__(self, database: Database, name: str = CURSOR_NAME) -> None:
        self._database = database
        self._name = name

    async def load(self) -> int:
        """The position that was saved last."""
        return await _in_thread(self._load)

    async def save(self, index: int) -> None:
        """Keep a position."""
        await _in_thread(lambda: self._save(index))

    def _load(self) -> int:
        with self._database.read() as connection:
            value = connection.execute(
                select(projector_state.c.value).where(projector_state.c.name == self._name)
            ).scalar()
        return CURSOR_START if value is None else value

    def _save(self, index: int) -> None:
        with self._database.write() as connection:
            if index == CURSOR_START:
                connection.execute(delete(telemetry_series))
            put_rows(connection, projector_state, ("name", "value"), [(self._name, index)])


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except (StoreBusy, StoreFull) as error:
        raise StoreUnavailable(str(error), "free the database or its disk") from error
