"""The default telemetry store: one DuckDB file, no server.

Place in the flow: behind the port in store.py, for one site on one machine. One process at a time opens the
file.

Does not: share the file; a second process gets StoreUnavailable that names the remedy.

How it writes. All points of a write go through DuckDB's appender into a temporary table; what they replace is
deleted and they are inserted, within one transaction: all or nothing, and on disk when `write` returns. There
is no primary key: an index is dearer than the DELETE's hash join, which reads only the blocks whose times
overlap the write's. Measured on two shared cores with 2 million points stored before, time of a write
relative to this way (tests/bench/telemetry_stores.py):

    points in the write                                1,000    10,000    10,000 late ones
    appender, DELETE, INSERT (this)                      1         1         1       (9 ms, 26 ms, 30 ms)
    Arrow table, DELETE, INSERT (needs pyarrow)          1.0       0.8       0.9
    appender, MERGE                                      1.2       1.2       1.0
    primary key, appender with upsert                    1.2       1.9       2.1
    JSON, DELETE, INSERT                                 1.3       2.2       2.0
    lists unnested, DELETE, INSERT                       1.5       2.9       2.3
    primary key, lists unnested, ON CONFLICT             1.7       4.0       4.1
    primary key, executemany, ON CONFLICT              160 to 380            (2 to 3 ms a point, empty table)
    appender alone, which doubles a retry                0.5       0.7       0.5

A NumPy array for each column gets in as fast as the appender (0.94 of its time alone), so it isn't worth the
package.

Rules it keeps: DuckDB blocks, so it runs in one thread of its own; values are bound, never part of a
statement. After any failed write the file is closed and opened anew, so a full disk or a failed fsync heals
without a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb

from surge_backend.telemetry.points import NS_PER_MS, Point, last_of_each
from surge_backend.telemetry.store import (
    LATEST_MAX,
    Aggregate,
    Sample,
    StoreCapabilities,
    StoreHealth,
    StoreQueryFailed,
    StoreUnavailable,
    TelemetryQuery,
)

T = TypeVar("T")

# Enough for a 10,000 point write and a day's query; past it DuckDB spills beside the file.
MEMORY_MAX_MB_DEFAULT: Final = 512
THREADS_DEFAULT: Final = 2
QUERY_TIMEOUT_S_DEFAULT: Final = 30.0

_INTERRUPT_EVERY_S: Final = 0.05

_COLUMNS: Final = (
    ("device", "VARCHAR"),
    ("name", "VARCHAR"),
    ("unit", "VARCHAR"),
    ("time_ns", "BIGINT"),
    ("value", "DOUBLE"),
    ("value_bool", "BOOLEAN"),
    ("value_text", "VARCHAR"),
    ("flags", "INTEGER"),
)
_CREATE: Final = "TABLE {} (" + ", ".join(f"{name} {kind}" for name, kind in _COLUMNS) + ")"
_REMOVE: Final = """
DELETE FROM telemetry AS t USING arriving AS a
WHERE t.device = a.device AND t.name = a.name AND t.unit = a.unit AND t.time_ns = a.time_ns
"""
_SELECT: Final = "SELECT name, unit, time_ns, value, value_bool, value_text, flags FROM telemetry"
_LATEST: Final = """
SELECT DISTINCT ON (name, unit) name, unit, time_ns, value, value_bool, value_text, flags
FROM telemetry WHERE device = ? ORDER BY name, unit, time_ns DESC LIMIT ?
"""
_AGGREGATES: Final[dict[Aggregate, str]] = {
    "mean": "avg(value)",
    "min": "min(value)",
    "max": "max(value)",
    "count": "count(value)",
    "last": "arg_max(value, time_ns)",
}
_CONFIG: Final[dict[str, str]] = {
    # Telemetry needs one file: no extension is fetched, no other file is read.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "enable_external_access": "false",
}


class DuckDbStore:
    """The port over one DuckDB file at ``path``, whose folder is made when it is missing."""

    capabilities = StoreCapabilities()

    def __init__(
        self,
        path: Path,
        *,
        query_timeout_s: float = QUERY_TIMEOUT_S_DEFAULT,
        memory_max_mb: int = MEMORY_MAX_MB_DEFAULT,
        threads: int = THREADS_DEFAULT,
    ) -> None:
        self._path = path
        self._query_timeout_s = query_timeout_s
        self._config = _CONFIG | {"memory_limit": f"{memory_max_mb}MB", "threads": str(threads)}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="telemetry-duckdb")
        self._turn = asyncio.Lock()
        # Only the thread touches it, but for interrupt(), which DuckDB allows from anywhere.
        self._connection: duckdb.DuckDBPyConnection | None = None

    async def open(self) -> None:
        """Opens the file, so that a wrong path shows at the start. A write tries again, should this fail."""
        await self._run(lambda connection: None)

    async def close(self) -> None:
        async with self._turn:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)

    async def write(self, points: Sequence[Point]) -> None:
        if not points:
            return
        rows = [_row(point) for point in last_of_each(points)]
        await self._run(lambda connection: _write(connection, rows))

    async def query(self, query: TelemetryQuery) -> list[Sample]:
        sql, values = _windows_sql(query) if query.window_ms else _samples_sql(query)
        rows = await self._run(lambda connection: connection.execute(sql, values).fetchall(), timed=True)
        return [_sample(query.device_id, row) for row in rows]

    async def latest(self, device_id: str) -> list[Sample]:
        values = [device_id, LATEST_MAX]
        rows = await self._run(lambda connection: connection.execute(_LATEST, values).fetchall(), timed=True)
        return [_sample(device_id, row) for row in rows]

    async def count(self) -> int:
        rows = await self._run(
            lambda connection: connection.execute("SELECT count(*) FROM telemetry").fetchall()
        )
        return int(rows[0][0])

    async def drop_all(self) -> None:
        # A new table, not a DELETE: the file's space becomes free at once.
        await self._run(
            lambda connection: connection.execute(f"CREATE OR REPLACE {_CREATE.format('telemetry')}")
        )

    async def health(self) -> StoreHealth:
        try:
            await self._run(lambda connection: connection.execute("SELECT 1").fetchall())
        except StoreUnavailable as error:
            return StoreHealth(ok=False, detail=str(error))
        return StoreHealth(ok=True, detail=f"DuckDB {duckdb.__version__}, {self._path}")

    async def _run(self, work: Callable[[duckdb.DuckDBPyConnection], T], *, timed: bool = False) -> T:
        async with self._turn:
            future = asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)
            try:
                if timed:
                    await asyncio.wait({future}, timeout=self._query_timeout_s)
                    await self._interrupt(future)
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                # The turn passes on only when the thread is free: an interrupt must never hit the next call's
                # work. A write is let finish.
                if timed:
                    await self._interrupt(future)
                await asyncio.wait({future})
                if not future.cancelled():
                    future.exception()  # nobody waits for it any more
                raise

    async def _interrupt(self, future: asyncio.Future[T]) -> None:
        """Stops the statement that runs. Asks again until it has stopped: an interrupt that comes before the
        statement begins is lost."""
        while not future.done():
            if self._connection is not None:
                self._connection.interrupt()
            await asyncio.wait({future}, timeout=_INTERRUPT_EVERY_S)

    def _work(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return work(self._connection)
        except duckdb.InterruptException as error:
            raise StoreQueryFailed(
                f"telemetry query ran longer than {self._query_timeout_s:g} s; "
                "ask for a shorter range, or for windows"
            ) from error
        except (duckdb.Error, OSError) as error:
            self._disconnect()
            raise _unavailable(self._path, error) from error

    def _connect(self) -> duckdb.DuckDBPyConnection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = dict(self._config)
        connection = duckdb.connect(str(self._path), config=config)
        try:
            connection.execute(f"CREATE {_CREATE.format('IF NOT EXISTS telemetry')}")
            connection.execute(f"CREATE TEMPORARY {_CREATE.format('arriving')}")
            found = tuple((row[0], row[1]) for row in connection.execute("DESCRIBE telemetry").fetchall())
        except BaseException:
            connection.close()
            raise
        if found != _COLUMNS:
            connection.close()
            raise StoreUnavailable(
                f"telemetry file {self._path} has columns of another version",
                "move it away and run `surge backend rebuild-telemetry`",
            )
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except duckdb.Error:
                pass  # it failed before this; what was committed is in the file or in its log


def _write(connection: duckdb.DuckDBPyConnection, rows: list[tuple[Any, ...]]) -> None:
    connection.begin()
    try:
        connection.execute("DELETE FROM arriving")
        with connection.appender("arriving") as appender:
            appender.append_rows(rows)
        connection.execute(_REMOVE)
        connection.execute("INSERT INTO telemetry FROM arriving")
        connection.commit()
    except BaseException:
        try:
            connection.rollback()
        except duckdb.Error:
            pass  # a failed commit has rolled back by itself
        raise


def _row(point: Point) -> tuple[Any, ...]:
    value = point.value
    head = (point.device_id, point.name, point.unit, point.time_ns)
    if isinstance(value, bool):
        return (*head, None, value, None, point.flags)
    if isinstance(value, str):
        return (*head, None, None, value, point.flags)
    return (*head, float(value), None, None, point.flags)


def _sample(device_id: str, row: tuple[Any, ...]) -> Sample:
    name, unit, time_ns, number, truth, text, flags = row
    value = text if text is not None else truth if truth is not None else number
    return Sample(device_id, name, unit, time_ns, value, flags)


def _where(query: TelemetryQuery) -> tuple[str, list[str | int]]:
    sql = " WHERE device = ? AND time_ns >= ? AND time_ns < ?"
    values: list[str | int] = [query.device_id, query.from_ms * NS_PER_MS, query.to_ms * NS_PER_MS]
    if query.name is not None:
        sql += " AND name = ?"
        values.append(query.name)
    return sql, values


def _samples_sql(query: TelemetryQuery) -> tuple[str, list[str | int]]:
    where, values = _where(query)
    return f"{_SELECT}{where} ORDER BY time_ns, name, unit LIMIT ?", [*values, query.limit]


def _windows_sql(query: TelemetryQuery) -> tuple[str, list[str | int]]:
    if query.aggregate is None or query.window_ms is None:
        raise AssertionError("a query of windows has both window_ms and aggregate")
    where, values = _where(query)
    window_ns = query.window_ms * NS_PER_MS
    columns = f"name, unit, (time_ns // ?) * ? AS start_ns, {_AGGREGATES[query.aggregate]}, NULL, NULL, 0"
    order = "GROUP BY name, unit, start_ns ORDER BY start_ns, name, unit LIMIT ?"
    # Every part is one of our constants; what the caller gave is bound.
    sql = f"SELECT {columns} FROM telemetry{where} AND value IS NOT NULL {order}"  # noqa: S608
    return sql, [window_ns, window_ns, *values, query.limit]


def _unavailable(path: Path, error: Exception) -> StoreUnavailable:
    text = str(error)
    if "Could not set lock" in text:
        remedy = "another process has it open: stop that one (one backend per file)"
    elif "not a valid DuckDB database" in text or isinstance(
        error, duckdb.FatalException | duckdb.InternalException
    ):
        remedy = "the file is damaged: move it away and run `surge backend rebuild-telemetry`"
    elif "No space left" in text or "File too large" in text:
        remedy = "the disk is full: free space, writing goes on by itself"
    else:
        remedy = "check that the folder exists, is writable and on a working disk"
    return StoreUnavailable(f"telemetry file {path}: {text}", remedy)
