"""Opening the database, and the two ways into it: ``read()`` and ``write()``.

Place in the flow: the composition root opens one `Database`; everything else takes a `Connection` or the
`Database`.

Does not: create tables (``migrations``), retry, or know what is stored.

Rules it keeps:

* one writer at a time, over all processes, from the first statement on: SQLite by BEGIN IMMEDIATE,
  PostgreSQL by an advisory lock (``postgresql``). What a writer reads can't change under it, so "check, then
  insert" is safe, and the log's order is the order of commits;
* a reader sees one snapshot, which is as of its first statement;
* a commit is on disk when it returns: SQLite's WAL with synchronous=FULL, PostgreSQL's synchronous_commit;
* who finds the database locked waits for BUSY_TIMEOUT_MS and then gets StoreBusy; a full disk or a failed
  write is StoreFull, a server that is gone is StoreLost (``faults``); nothing of the transaction stays, and
  no restart is needed once the cause is gone;
* works from many threads: each takes a connection of its own from the pool;
* what an error says never has the values of a statement: token hashes and sealed secrets stay out of logs
  (threat 25).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url

from surge_backend.db import postgresql
from surge_backend.db.faults import faults_named
from surge_backend.errors import BackendError, StoreBusy

BUSY_TIMEOUT_MS: Final = 5_000  # a batch of 10,000 reports commits in well under a second
# Connections kept; up to twice as many are open while needed, then callers wait POOL_TIMEOUT_S.
POOL_SIZE: Final = 8
POOL_TIMEOUT_S: Final = 10
# Pages written before they are brought into the database file. Sixteen times SQLite's default: the pages
# that every batch changes are brought over once for many batches.
WAL_PAGES_MAX: Final = 16_000
WAL_LEN_KEPT_MAX: Final = 80 * 1024 * 1024  # bytes; a larger log file is cut back at the next checkpoint
CACHE_KIB: Final = 64 * 1024  # of pages, each connection at most

_WRITER: Final = "surge_writer"  # the execution option of the one writer's connection


@dataclass(frozen=True)
class Database:
    """An open database. Share it between threads; close it once."""

    engine: Engine
    busy_timeout_ms: int = BUSY_TIMEOUT_MS
    # SQLite's own wait polls and is unfair; within one process writers queue here instead.
    _turn: Lock = field(default_factory=Lock, repr=False, compare=False)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection with one consistent snapshot; what is written through it is not kept."""
        with faults_named(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The one writer's transaction: committed when the block ends, rolled back when it raises."""
        if not self._turn.acquire(timeout=self.busy_timeout_ms / 1000):
            raise StoreBusy("another writer is at work for too long; nothing was stored, try again")
        try:
            with faults_named(), self.engine.connect() as plain:
                connection = plain.execution_options(**{_WRITER: True})
                with connection.begin():
                    yield connection
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close pooled connections."""
        self.engine.dispose()


def open_engine(url: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Database:
    """Open the database at an SQLAlchemy URL: ``sqlite:///path/to/file.db``, or ``postgresql://…``.

    A plain path is taken as an SQLite file. Raises BackendError for a URL that can't work.
    """
    try:
        parsed = make_url(url if "://" in url else f"sqlite:///{url}")
    except ValueError:
        # its text would show a part of the URL, which may be one of the password
        raise BackendError("the part after the host's name is no port number") from None
    options: dict[str, Any] = {
        "pool_size": POOL_SIZE,
        "max_overflow": POOL_SIZE,
        "pool_timeout": POOL_TIMEOUT_S,
        "hide_parameters": True,  # an error ends in the log; parameters hold hashes and sealed keys
    }
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or "mode=memory" in parsed.database:
            raise BackendError(
                "the database is in memory, where threads don't share it and nothing lasts;"
                " name a file: sqlite:///surge.db"
            )
        engine = create_engine(parsed, **options)
        _set_up_sqlite(engine, busy_timeout_ms)
    elif postgresql.is_meant(parsed):
        engine = create_engine(postgresql.checked_url(parsed), **options, **postgresql.engine_options())
        postgresql.set_up(engine, busy_timeout_ms, _WRITER)
    else:
        raise BackendError(
            f"the database {parsed.get_backend_name()!r} is not supported;"
            " use an sqlite:/// or a postgresql:// URL"
        )
    return Database(engine, busy_timeout_ms)


def _set_up_sqlite(engine: Engine, busy_timeout_ms: int) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout_ms)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
        cursor.execute(f"PRAGMA journal_size_limit = {WAL_LEN_KEPT_MAX}")
        cursor.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        writer = connection.get_execution_options().get(_WRITER)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")
