"""The statements of every batch, as plain driver calls: rows by the thousand, look-ups by key, single rows.

Place in the flow: ``ingest``, ``ledger`` and ``log`` write through these; the one place that knows how SQL
differs between dialects, which here is how a parameter is written.

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

from sqlalchemy import Connection, Table

# Parameters of one statement; SQLite takes 32,766, PostgreSQL 65,535.
PARAMETERS_MAX: Final = 16_000

Values = tuple[Any, ...]


def _placeholders(dialect: str, count: int) -> str:
    return ", ".join(["?" if dialect == "sqlite" else "%s"] * count)


@lru_cache(maxsize=256)
def _insert_sql(dialect: str, table: Table, columns: tuple[str, ...], conflict: str) -> str:
    names = ", ".join(columns)
    sql = f"INSERT INTO {table.name} ({names}) VALUES ({_placeholders(dialect, len(columns))})"  # noqa: S608
    if conflict == "ignore":
        return sql + " ON CONFLICT DO NOTHING"
    if conflict == "replace":
        keys = [column.name for column in table.primary_key.columns]
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in keys)
        return f"{sql} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"
    return sql


def insert_rows(
    connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Values]
) -> None:
    """Insert ``rows``; a row that is there already raises IntegrityError."""
    _run_many(connection, _insert_sql(connection.dialect.name, table, columns, ""), rows)


def insert_missing(
    connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Values]
) -> int:
    """Insert those ``rows`` that are not there already and say how many that were."""
    return _run_many(connection, _insert_sql(connection.dialect.name, table, columns, "ignore"), rows)


def put_rows(connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Values]) -> None:
    """Insert ``rows``; one whose primary key is there already takes its place, in the columns named."""
    _run_many(connection, _insert_sql(connection.dialect.name, table, columns, "replace"), rows)


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

    One statement for every PARAMETERS_MAX parameters, so the order is that of the statements.
    """
    found: list[Values] = []
    dialect = connection.dialect.name
    one = _placeholders(dialect, 1)
    remaining = iter(keys)
    part = list(islice(remaining, 1))
    if not part:
        return found
    cursor = _cursor(connection)
    while part:
        width = len(part[0])
        part += islice(remaining, PARAMETERS_MAX // width - 1)
        group = one if width == 1 else f"({_placeholders(dialect, width)})"
        listed = ", ".join([group] * len(part))
        if width > 1 and dialect == "sqlite":
            listed = "VALUES " + listed
        statement = sql.replace("{keys}", listed).replace("{}", one)
        parameters = values + tuple(value for key in part for value in key)
        cursor.execute(statement, parameters)
        found.extend(cursor.fetchall())
        part = list(islice(remaining, 1))
    cursor.close()
    return found


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
