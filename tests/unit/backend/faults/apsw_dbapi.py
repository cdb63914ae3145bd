"""The part of Python's `sqlite3` module that SQLAlchemy uses, spoken by apsw, which takes file layers.

`ApswModule(vfs_of)` stands where `create_engine(module=...)` expects `sqlite3`: its errors are sqlite3's own
classes with sqlite3's own attributes, so that the code under test sees no difference.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import apsw

_CLASSES: dict[int, type[sqlite3.Error]] = {
    apsw.SQLITE_INTERNAL: sqlite3.InternalError,
    apsw.SQLITE_NOTFOUND: sqlite3.InternalError,
    apsw.SQLITE_CORRUPT: sqlite3.DatabaseError,
    apsw.SQLITE_NOTADB: sqlite3.DatabaseError,
    apsw.SQLITE_TOOBIG: sqlite3.DataError,
    apsw.SQLITE_CONSTRAINT: sqlite3.IntegrityError,
    apsw.SQLITE_MISMATCH: sqlite3.IntegrityError,
    apsw.SQLITE_MISUSE: sqlite3.InterfaceError,
    apsw.SQLITE_RANGE: sqlite3.InterfaceError,
}


def _translated(error: apsw.Error) -> sqlite3.Error:
    """As CPython's Modules/_sqlite/util.c has it."""
    code = getattr(error, "result", None)
    if code is None:
        return sqlite3.ProgrammingError(str(error))
    told = _CLASSES.get(code & 0xFF, sqlite3.OperationalError)(str(error))
    told.sqlite_errorcode = getattr(error, "extendedresult", code)
    told.sqlite_errorname = type(error).__name__
    return told


class Cursor:
    arraysize = 1

    def __init__(self, database: apsw.Connection) -> None:
        self._database = database
        self._cursor = database.cursor()
        self._cursor.exec_trace = self._note
        self.description: tuple[Any, ...] | None = None
        self.rowcount = -1

    @property
    def lastrowid(self) -> int:
        return self._database.last_insert_rowid()

    def _note(self, cursor: apsw.Cursor, _sql: str, _bindings: Any) -> bool:
        columns = cursor.get_description()
        self.description = tuple((column[0], *[None] * 6) for column in columns) or None
        return True

    def execute(self, sql: str, parameters: Any = ()) -> "Cursor":
        self.description = None
        try:
            self._cursor.execute(sql, parameters or None)
        except apsw.Error as error:
            raise _translated(error) from None
        self.rowcount = -1 if self.description else self._database.changes()
        return self

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> "Cursor":
        changed = 0
        for row in rows:
            self.execute(sql, row)
            changed += self.rowcount
        self.rowcount = changed
        return self

    def fetchone(self) -> Any:
        try:
            return self._cursor.fetchone()
        except apsw.Error as error:
            raise _translated(error) from None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        found = []
        while len(found) < (size or self.arraysize) and (row := self.fetchone()) is not None:
            found.append(row)
        return found

    def fetchall(self) -> list[Any]:
        try:
            return self._cursor.fetchall()
        except apsw.Error as error:
            raise _translated(error) from None

    def close(self) -> None:
        try:
            self._cursor.close()
        except apsw.Error as error:  # what the statement that is given up had to say
            raise _translated(error) from None


class Connection:
    def __init__(self, path: str, vfs: str) -> None:
        try:
            self._database = apsw.Connection(path, vfs=vfs)
        except apsw.Error as error:
            raise _translated(error) from None
        self.isolation_level: str | None = ""

    def cursor(self) -> Cursor:
        return Cursor(self._database)

    def execute(self, sql: str, parameters: Any = ()) -> Cursor:
        return self.cursor().execute(sql, parameters)

    def create_function(self, name: str, count: int, function: Any, deterministic: bool = False) -> None:
        self._database.create_scalar_function(name, function, count, deterministic=deterministic)

    def commit(self) -> None:
        if self._database.in_transaction:
            self.execute("COMMIT").close()

    def rollback(self) -> None:
        if self._database.in_transaction:
            self.execute("ROLLBACK").close()

    def close(self) -> None:
        try:
            self._database.close()
        except apsw.Error as error:
            raise _translated(error) from None


class ApswModule:
    """`vfs_of(folder)` gives the file layer for databases in that folder."""

    sqlite_version_info = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))

    def __init__(self, vfs_of: Callable[[Path], str]) -> None:
        self._vfs_of = vfs_of
        self._opened: list[tuple[Path, Connection]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)

    def connect(self, path: str, **_options: Any) -> Connection:
        folder = Path(path).parent
        connection = Connection(path, self._vfs_of(folder))
        self._opened.append((folder, connection))
        return connection

    def disconnect(self, folder: Path) -> None:
        """Close what a start that failed has left open."""
        for where, connection in self._opened:
            if where == folder:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        self._opened = [each for each in self._opened if each[0] != folder]
