"""Projection: accepted reports as telemetry points, in the order of the log.

``points`` is the pure part, ``series`` bounds how many series a device has, ``source`` reads batches and
keeps the cursor; `make_projector` puts them together.
"""

from collections.abc import Callable

from surge_backend.db.engine import Database
from surge_backend.projection.keeper import Keeper
from surge_backend.projection.series import TELEMETRY_SERIES_MAX
from surge_backend.projection.source import (
    CURSOR_NAME,
    ENTRIES_MAX,
    StoredCursor,
    StoredPoints,
    ignore_left_out,
)
from surge_backend.telemetry.projection import ProjectorSettings
from surge_backend.telemetry.projector import Projector
from surge_backend.telemetry.store import TelemetryStore

__all__ = ("Keeper", "StoredCursor", "StoredPoints", "make_projector")


def make_projector(
    database: Database,
    store: TelemetryStore,
    retry_max_s: float,
    series_max: int = TELEMETRY_SERIES_MAX,
    on_left_out: Callable[[str, int], None] = ignore_left_out,
    cursor_name: str = CURSOR_NAME,
) -> Projector:
    """The projector from ``database`` into ``store``. Its positions are ``log_index + 1``, 0 before the first
    batch. ``series_max`` and ``on_left_out`` as in `StoredPoints`, ``cursor_name`` as in `cursor_name`."""
    settings = ProjectorSettings(entries_max=ENTRIES_MAX, backoff_max_s=retry_max_s)
    points = StoredPoints(database, series_max, on_left_out)
    return Projector(points, StoredCursor(database, cursor_name), store, settings)
