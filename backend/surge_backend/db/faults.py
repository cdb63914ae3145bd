"""What a database's driver says went wrong, as one of the errors that callers have to tell apart.

Place in the flow: `Database` runs every transaction in `faults_named`.

Does not: retry, or name what is a defect (a broken constraint, bad SQL): that passes as it is.

Rule kept: the driver's own words stand in the error for the log; none of them holds a statement's values or a
password.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError

from surge_backend.errors import StoreBusy, StoreFull, StoreLost

_BUSY: Final = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))
_FULL: Final = frozenset(
    (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
)
# SQLSTATEs of PostgreSQL. Lock not available, serialisation, deadlock, cancelled, too many connections.
_PG_BUSY: Final = frozenset(("55P03", "40001", "40P01", "57014", "53300"))
# Disk full, out of memory, I/O error; read only, as a server is after a change-over to its standby.
_PG_FULL: Final = frozenset(("53100", "53200", "58030", "25006"))
# The server stops, stopped, or starts; it ended a connection that did nothing.
_PG_LOST: Final = frozenset(("57P01", "57P02", "57P03", "57P05", "25P03", "25P04"))
_PG_LOST_CLASS: Final = "08"  # the connection itself


@contextmanager
def faults_named() -> Iterator[None]:
    """Turn the driver's errors into StoreBusy, StoreFull and StoreLost; all else passes as it is."""
    try:
        yield
    except Exception as error:
        named = _name(error)
        if named is None:
            raise
        raise named from error


def _name(error: Exception) -> StoreBusy | StoreFull | None:
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    state = getattr(original, "sqlstate", None)
    if (code is not None and code & 0xFF in _BUSY) or state in _PG_BUSY:
        return StoreBusy(
            f"the database is locked or has no connection left ({first_line(error)});"
            " nothing was stored, try again"
        )
    if (code is not None and code & 0xFF in _FULL) or state in _PG_FULL:
        return StoreFull(
            f"the database can't write ({first_line(error)}); nothing was stored, make room and try again"
        )
    if state in _PG_LOST or (state or "").startswith(_PG_LOST_CLASS) or _is_lost(original):
        return StoreLost(f"the database server doesn't answer ({first_line(error)}); try again")
    return None


def _is_lost(original: BaseException | None) -> bool:
    """Whether it is psycopg's error for a connection that can't be made, or broke: it has no SQLSTATE."""
    return getattr(original, "sqlstate", "") is None and any(
        kind.__name__ == "OperationalError" and kind.__module__.partition(".")[0] == "psycopg"
        for kind in type(original).__mro__
    )


def first_line(error: BaseException) -> str:
    """The first line of what the driver says."""
    original = getattr(error, "orig", None) or error
    return (str(original).splitlines() or [type(original).__name__])[0]
