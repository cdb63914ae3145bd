"""The statements of every batch, as plain driver calls: rows by the thousand, look-ups by key, single rows.

Place in the flow: ``ingest``, ``ledger`` and ``log`` write through these; the one place that knows how SQL
differs between dialects: how a parameter is written, and how many rows are handed over at once. SQLite takes
them row by row, at no distance; PostgreSQL takes one array for each column, so a thousand rows are one
statement, whose text doesn't depend on their number and which the server therefore plans once.

Does not: convert values (only for columns that need none: numbers, text, bytes), or begin and end
transactions. Errors are the driver's own; `Database` names the two that callers have to tell apart.

Why not Core's expressions: they cost 0.1 to 0.2 ms a statement on this path, exec_driver_sql still 0.05.
With some twenty-five statements a batch, each of 500 reports would pay 6 us for them, as much as for its MAC
and its decoding together.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from sqlalchemy import Boolean, Connection, Integer, LargeBinary, String, Table

# Parameters of one statement on SQLite, which takes 32,766.
PARAMETERS_MAX: Final = 16_000

Values = tuple[Any, ...]

# Arrays as PostgreSQL takes them: of a column's type, and of a key by the type of its first value. None has a
# length: a cast to varchar(17) would cut a longer text, where an insert refuses it.
_COLUMN_ARRAYS: Final = (
    (String, "text[]"),
    (Integer, "int8[]"),
    (LargeBinary, "bytea[]"),
    (Boolean, "bool[]"),
)
_KEY_ARRAYS: Final = {str: "text[]", int: "int8[]", bytes: "bytea[]"}


def _placeholders(dialect: str, count: int) -> str:
    return ", ".join(["?" if dialect == "sqlite" else "%s"] * count)


@lru_cache(maxsize=256)
def _insert_sql(
    dialect: str, table: Table, columns: tuple[str, ...], conflict: str, by_arrays: bool = False
) -> str:
    names = ", ".join(columns)
    if not by_arrays:
        rows = f"VALUES ({_placeholders(dialect, len(columns))})"
    else:
        arrays = ", ".join("%s::" + _column_array(table, name) for name in columns)
        rows = f"SELECT * FROM unnest({arrays})"  # noqa: S608
    sql = f"INSERT INTO {table.name} ({names}) {rows}"
    if conflict == "ignore":
        return sql + " ON CONFLICT DO NOTHING"
    if conflict == "replace":
        keys = [column.name for column in table.primary_key.columns]
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in keys)
        return f"{sql} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"
    return sql


def _column_array(table: Table, column: str) -> str:
    return next(array for kind, array in _COLUMN_ARRAYS if isinstance(table.c[column].type, kind))


def insert_rows(
    connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Values]
) -> None:
    """Insert ``rows``; a row that is there already raises IntegrityError."""
    _insert(connection, table, columns, "", rows)


def insert_missing(
    connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Values]
) -> int:
    """Insert those ``rows`` that are not there already and say how many that were."""
    return _insert(connection, table, columns, "ignore", rows)


def put_rows(connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Values]) -> None:
    """Insert ``rows``; one whose primary key is there already takes its place, in the columns named.
    No two of ``rows`` have the same key."""
    _insert(connection, table, columns, "replace", rows)


def _insert(
    connection: Connection, table: Table, columns: tuple[str, ...], conflict: str, rows: Sequence[Values]
) -> int:
    dialect = connection.dialect.name
    if dialect == "sqlite" or len(rows) < 2:
        return _run_many(connection, _insert_sql(dialect, table, columns, conflict), rows)
    return _run_arrays(connection, _insert_sql(dialect, table, columns, conflict, by_arrays=True), rows)


def _run_arrays(connection: Connection, sql: str, rows: Sequence[Values]) -> int:
    """Run ``sql`` once for all of ``rows``; PostgreSQL alone."""
    if not rows:
        return 0
    cursor = _cursor(connection)
    try:
        cursor.execute(sql, [_array(column) for column in zip(*rows, strict=True)])
        return int(cursor.rowcount)
    finally:
        cursor.close()


@lru_cache(maxsize=256)
def _update_sql(dialect: str, table: Table, columns: tuple[str, ...], unchanged: str) -> str:
    *changed, key = columns
    if dialect == "sqlite":
        changes = ", ".join(f"{name} = ?" for name in changed)
        return f"UPDATE {table.name} SET {changes} WHERE {key} = ? AND {unchanged} = ?"  # noqa: S608
    changes = ", ".join(f"{name} = new.{name}" for name in changed)
    arrays = ", ".join("%s::" + _column_array(table, name) for name in (*columns, unchanged))
    return (
        f"UPDATE {table.name} AS old SET {changes}"  # noqa: S608
        f" FROM unnest({arrays}) AS new ({', '.join(columns)}, was)"
        f" WHERE old.{key} = new.{key} AND old.{unchanged} = new.was"
    )


def update_rows(
    connection: Connection, table: Table, columns: tuple[str, ...], unchanged: str, rows: Sequence[Values]
) -> int:
    """Change ``columns`` of those of ``rows`` whose column ``unchanged`` still has the value that stands last
    in the row, and say how many that were. The last of ``columns`` is the key."""
    dialect = connection.dialect.name
    sql = _update_sql(dialect, table, columns, unchanged)
    return _run_many(connection, sql, rows) if dialect == "sqlite" else _run_arrays(connection, sql, rows)


@lru_cache(maxsize=256)
def _with_placeholders(dialect: str, sql: str) -> str:
    return sql.replace("{}", _placeholders(dialect, 1))


def fetch_one(connection: Connection, sql: str, *values: Any) -> Any:
    """The first row of ``sql`` as a tuple, or None; each ``{}`` stands for one of ``values``."""
    cursor = _cursor(connection)
    try:
        cursor.execute(_with_placeholders(connection.dialect.name, sql), values)
        return cursor.fetchone()
    finally:
        cursor.close()


def fetch_all(connection: Connection, sql: str, *values: Any) -> list[Values]:
    """Every row of ``sql`` as tuples; each ``{}`` stands for one of ``values``. Bound them by a LIMIT."""
    cursor = _cursor(connection)
    try:
        cursor.execute(_with_placeholders(connection.dialect.name, sql), values)
        return list(cursor.fetchall())
    finally:
        cursor.close()


def execute(connection: Connection, sql: str, *values: Any) -> None:
    """Run ``sql``; each ``{}`` stands for one of ``values``."""
    cursor = _cursor(connection)
    try:
        cursor.execute(_with_placeholders(connection.dialect.name, sql), values)
    finally:
        cursor.close()


def execute_many(connection: Connection, sql: str, rows: Sequence[Values]) -> int:
    """Run ``sql`` for each of ``rows``; each ``{}`` stands for one of a row's values. Gives how many rows of
    the database it changed."""
    return _run_many(connection, _with_placeholders(connection.dialect.name, sql), rows)


def select_by_keys(
    connection: Connection, sql: str, keys: Iterable[Values], values: Values = ()
) -> list[Values]:
    """Rows of ``sql``, in which ``{keys}`` stands for a list of keys and each ``{}`` for one of ``values``
    before it.

    On SQLite one statement for every PARAMETERS_MAX parameters, so the order is that of the statements.
    """
    remaining = iter(keys)
    part = list(islice(remaining, 1))
    if not part:
        return []
    if connection.dialect.name != "sqlite":
        return _select_by_arrays(connection, sql, part + list(remaining), values)
    found: list[Values] = []
    cursor = _cursor(connection)
    while part:
        width = len(part[0])
        part += islice(remaining, PARAMETERS_MAX // width - 1)
        if width == 1:
            listed = ", ".join(["?"] * len(part))
        else:
            listed = "VALUES " + ", ".join([f"({_placeholders('sqlite', width)})"] * len(part))
        statement = sql.replace("{keys}", listed).replace("{}", "?")
        parameters = values + tuple(value for key in part for value in key)
        cursor.execute(statement, parameters)
        found.extend(cursor.fetchall())
        part = list(islice(remaining, 1))
    cursor.close()
    return found


def _select_by_arrays(connection: Connection, sql: str, keys: list[Values], values: Values) -> list[Values]:
    arrays = ", ".join(f"%s::{_KEY_ARRAYS[type(value)]}" for value in keys[0])
    listed = f"SELECT * FROM unnest({arrays})"  # noqa: S608
    statement = sql.replace("{keys}", listed).replace("{}", "%s")
    cursor = _cursor(connection)
    try:
        cursor.execute(statement, [*values, *(_array(column) for column in zip(*keys, strict=True))])
        found: list[Values] = cursor.fetchall()
        return found
    finally:
        cursor.close()


def _array(values: Sequence[Any]) -> str:
    """An array in PostgreSQL's own notation. The driver would write the same, in three times the time."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if isinstance(value, bytes):
        return '"\\\\x' + value.hex() + '"'
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "t" if value else "f"
    raise TypeError(f"no column holds a {type(value).__name__}")


def _cursor(connection: Connection) -> Any:
    """A cursor of the driver, within the transaction that is open or that this begins."""
    if not connection.in_transaction():
        connection.begin()
    return connection.connection.cursor()


def _run_many(connection: Connection, sql: str, rows: Sequence[Values]) -> int:
    """Run ``sql`` for each of ``rows``; gives how many rows it changed."""
    if not rows:
        return 0
    cursor = _cursor(connection)
    try:
        cursor.executemany(sql, rows)
        return int(cursor.rowcount)
    finally:
        cursor.close()
