"""Stored batches as the projector's source, and its cursor.

Place in the flow: between the database and ``telemetry.projector``.

Rules it keeps: batches come in the order of the log, from committed transactions only; a position is
``log_index + 1``, because the projector counts from 1. The database blocks, so both work in a thread. A busy
database is StoreUnavailable: the projector tries again without end.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from sqlalchemy import select

from surge_backend.db.bulk import put_rows
from surge_backend.db.engine import Database
from surge_backend.db.schema import batches, projector_state
from surge_backend.errors import StoreBusy, StoreFull
from surge_backend.projection.points import batch_points
from surge_backend.telemetry.points import Point
from surge_backend.telemetry.projection import CURSOR_START
from surge_backend.telemetry.store import StoreUnavailable
from surge_wire.cbor import decode
from surge_wire.settlement import decode_settlement

# Batches read at once. A full one may hold 10,000 reports of 64 records: 640,000 points, some 150 MB, so not
# many more.
ENTRIES_MAX: Final = 4
CURSOR_NAME: Final = "telemetry"

T = TypeVar("T")


class StoredPoints:
    """The projector's source."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.left_out = 0  # values that no point can carry, since the start

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
        found: list[tuple[int, Sequence[Point]]] = []
        for row in rows:
            allowed = frozenset(decode(row.window_devices)) if row.window_devices else frozenset()
            made = batch_points(row.envelope, decode_settlement(row.settlement), allowed)
            self.left_out += made.left_out
            found.append((row.log_index + 1, made.points))
        return found


class StoredCursor:
    """The projector's cursor, in ``projector_state``."""

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
            put_rows(connection, projector_state, ("name", "value"), [(self._name, index)])


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except (StoreBusy, StoreFull) as error:
        raise StoreUnavailable(str(error), "free the database or its disk") from error
