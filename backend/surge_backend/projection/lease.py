"""Who runs the telemetry projector: one process at a time for each store.

Place in the flow: a `Keeper` runs the projector while it has the lease; the others look every LEASE_POLL_S
whether it has become free.

Does not: stop two from projecting for a moment, when a holder's connection broke and it hasn't noticed yet.
That is harmless: points and cursor come out the same (invariant 5).

Rules it keeps: a lease ends with the process that holds it, however it ends. On PostgreSQL it is an advisory
lock of a connection that is kept for it (so a pooler between has to keep sessions), on SQLite a lock on a
file beside the database. The calls block: they belong in a thread.
"""

import os
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from surge_backend.db.engine import Database
from surge_backend.db.faults import faults_named
from surge_backend.db.postgresql import PROJECTOR_LOCK
from surge_backend.errors import StoreBusy, StoreFull
from surge_host.private_files import take_lock

LEASE_POLL_S: Final = 1.0
LOCK_SUFFIX: Final = "-projector.lock"


class Lease(Protocol):
    """One process's way to the lease."""

    def take(self) -> bool:
        """Have it, now or still."""

    def release(self) -> None:
        """Give it back; harmless without it."""


class FileLease:
    """On SQLite."""

    def __init__(self, database_file: Path) -> None:
        self._path = database_file.with_name(database_file.name + LOCK_SUFFIX)
        self._descriptor = -1

    def take(self) -> bool:
        if self._descriptor < 0:
            try:
                self._descriptor = take_lock(self._path)
            except OSError:  # another process has it, or there is no room for the file
                return False
        return True

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SessionLease:
    """On PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def take(self) -> bool:
        try:
            with faults_named():
                if self._connection is not None:
                    self._connection.execute(text("SELECT 1"))
                    return True
                return self._try()
        except (StoreBusy, StoreFull, SQLAlchemyError):
            self.release()
            return False

    def _try(self) -> bool:
        connection = self._database.engine.connect()
        self._connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # not one of the pool's: it is never used for anything else
        found = connection.execute(text("SELECT pg_try_advisory_lock(:number)"), {"number": PROJECTOR_LOCK})
        if found.scalar_one():
            return True
        self.release()
        return False

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # detached: this ends the session, and the lock with it


class OwnStore:
    """For a store that no other process has: a DuckDB file in our data directory."""

    def take(self) -> bool:
        return True

    def release(self) -> None:
        pass


def make_lease(database: Database, store_is_embedded: bool) -> Lease:
    """The lease of the projector into the store of this backend."""
    if store_is_embedded:
        return OwnStore()
    url = database.engine.url
    if url.get_backend_name() == "sqlite":
        return FileLease(Path(str(url.database)))
    return SessionLease(database)
