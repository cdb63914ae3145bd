"""What the process before this one has written and perhaps not synced.

Place in the flow: `migrations.upgrade` calls it, which runs once at every start before anything else.

Why: SQLite writes a commit to its log file (the WAL) and then syncs that. A process that was killed between
the two leaves a commit that is whole: the next process reads it like any other, and a gateway that repeats
the batch gets its receipt, deletes the batch, and a power loss a moment later takes the commit away: in a
signed log, and gone. So what was found is synced before any of it is told to anyone (threat 10). PostgreSQL
does that by itself.
"""

import sqlite3
import time
from typing import Final

from sqlalchemy.exc import DBAPIError

from surge_backend.db.engine import Database
from surge_backend.db.faults import faults_named
from surge_backend.errors import StoreBusy

_POLL_S: Final = 0.01  # while another process brings the WAL over, which it syncs first


def make_durable(database: Database) -> None:
    """Return when all that can be read now is on the disk. Raises StoreBusy, StoreFull."""
    if database.engine.dialect.name != "sqlite":
        return
    give_up_s = time.monotonic() + database.busy_timeout_ms / 1000
    while not _sync_wal(database):
        if time.monotonic() >= give_up_s:
            raise StoreBusy("another process is at work on the database for too long; try again")
        time.sleep(_POLL_S)


def _sync_wal(database: Database) -> bool:
    """A checkpoint, whose first step is to sync the WAL; False while another process is at one."""
    with faults_named(), database.engine.connect() as connection:
        try:
            return not connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").one()[0]
        except DBAPIError as error:
            code = getattr(error.orig, "sqlite_errorcode", 0)
            if code & 0xFF == sqlite3.SQLITE_FULL:
                return True  # no room to bring pages over; the sync came before
            raise
