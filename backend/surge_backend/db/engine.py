"""Opening the database, and the two ways into it: ``read()`` and ``write()``.

Place in the flow: the composition root opens one `Database`; everything else takes a `Connection` or the
`Database`.

Does not: create tables (``migrations``), retry, or know what is stored.

Rules it keeps:

* one writer at a time, from the first statement on: SQLite by BEGIN IMMEDIATE, PostgreSQL by an advisory
  lock. What a writer reads can't change under it, so "check, then insert" is safe, and the log's order is
  the order of commits;
* a commit is on disk when it returns: WAL with synchronous=FULL;
* who finds the database locked waits for BUSY_TIMEOUT_MS and then gets StoreBusy; a full disk or a failed
  write is StoreFull, and the transaction is rolled back in both cases;
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

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError

from surge_backend.errors import BackendError, StoreBusy, StoreFull

BUSY_TIMEOUT_MS: Final = 5_000  # a batch of 10,000 reports commits in well under a second
# Connections kept; up to twice as many are open while needed, then callers wait POOL_TIMEOUT_S.
POOL_SIZE: Final = 8
POOL_TIMEOUT_S: Final = 10
# Pages written before they are brought into the database file. Sixteen times SQLite's default: the pages
# that every batch changes are brought over once for many batches.
WAL_PAGES_MAX: Final = 16_000
WAL_LEN_KEPT_MAX: Final = 80 * 1024 * 1024  # bytes; a larger log file is cut back at the next checkpoint
CACHE_KIB: Final = 64 * 1024  # of pages, each connection at most

_WRITER: Final = "surge_writer"
_WRITER_LOCK: Final = 0x5355524745  # "SURGE": the advisory lock's number on PostgreSQL
_BUSY: Final = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))
_FULL: Final = frozenset(
    (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
)
# Lock not available, serialisation, deadlock, cancelled.
_PG_BUSY: Final = frozenset(("55P03", "40001", "40P01", "57014"))
_PG_FULL: Final = frozenset(("53100", "53200", "58030"))  # disk full, out of memory, I/O error


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
    """Open the database at an SQLAlchemy URL: ``sqlite:///path/to/file.db``, or ``postgresql+psycopg://…``.

    A plain path is taken as an SQLite file. Raises BackendError for a URL that can't work.
    """
    parsed = make_url(url if "://" in url else f"sqlite:///{url}")
    backend = parsed.get_backend_name()
    options: dict[str, Any] = {
        "pool_size": POOL_SIZE,
        "max_overflow": POOL_SIZE,
        "pool_timeout": POOL_TIMEOUT_S,
        "hide_parameters": True,  # an error ends in the log; parameters hold hashes and sealed keys
    }
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or "mode=memory" in parsed.database:
            raise BackendError(
                "the database is in memory, where threads don't share it and nothing lasts;"
                " name a file: sqlite:///surge.db"
            )
    elif backend == "postgresql":
        options["pool_pre_ping"] = True
    else:
        raise BackendError(
            f"the database {backend!r} is not supported; use an sqlite:/// or a postgresql+psycopg:// URL"
        )
    engine = create_engine(parsed, **options)
    if backend == "sqlite":
        _set_up_sqlite(engine, busy_timeout_ms)
    else:
        _set_up_postgresql(engine, busy_timeout_ms)
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


def _set_up_postgresql(engine: Engine, busy_timeout_ms: int) -> None:
    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if connection.get_execution_options().get(_WRITER):
            connection.execute(text(f"SET LOCAL lock_timeout = {int(busy_timeout_ms)}"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _WRITER_LOCK})
        else:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


@contextmanager
def faults_named() -> Iterator[None]:
    """Turn the driver's "locked" and "disk full" into StoreBusy and StoreFull; all else passes as it is."""
    try:
        yield
    except Exception as error:
        original = error.orig if isinstance(error, DBAPIError) else error
        code = getattr(original, "sqlite_errorcode", None)
        state = getattr(original, "sqlstate", None)
        if (code is not None and code & 0xFF in _BUSY) or state in _PG_BUSY:
            raise StoreBusy(
                "the database is locked by another process; nothing was stored, try again"
            ) from error
        if (code is not None and code & 0xFF in _FULL) or state in _PG_FULL:
            raise StoreFull(
                f"the database can't write ({original}); nothing was stored, make room and try again"
            ) from error
        raise
