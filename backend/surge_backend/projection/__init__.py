"""Projection: accepted reports as telemetry points, in the order of the log.

``points`` is the pure part, ``source`` reads batches and keeps the cursor; `make_projector` puts them
together.
"""

from surge_backend.db.engine import Database
from surge_backend.projection.source import ENTRIES_MAX, StoredCursor, StoredPoints
from surge_backend.telemetry.projection import ProjectorSettings
from surge_backend.telemetry.projector import Projector
from surge_backend.telemetry.store import TelemetryStore

__all__ = ("StoredCursor", "StoredPoints", "make_projector")


def make_projector(database: Database, store: TelemetryStore, retry_max_s: float) -> Projector:
    """The projector from ``database`` into ``store``. Its positions are ``log_index + 1``, 0 before the
    first batch."""
    settings = ProjectorSettings(entries_max=ENTRIES_MAX, backoff_max_s=retry_max_s)
    return Projector(StoredPoints(database), StoredCursor(database), store, settings)
