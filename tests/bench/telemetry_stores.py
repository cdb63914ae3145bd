"""How fast points get into the telemetry stores, and which way into DuckDB is the fastest.

    python -m pytest -s tests/bench/telemetry_stores.py       # or: python tests/bench/telemetry_stores.py

Prints figures; asserts only that every way stores the same. Absolute figures belong to the machine; what
counts is the ratio to the way that the store takes. Arrow is measured where pyarrow is installed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [
    str(REPOSITORY / "backend"),
    str(REPOSITORY / "protocol"),
    str(REPOSITORY / "tests" / "contract"),
]

from telemetry_servers import Server, influx1_server, victoria_server  # noqa: E402

from surge_backend.telemetry import duckdb_store  # noqa: E402
from surge_backend.telemetry.factory import TelemetrySettings, make_store  # noqa: E402
from surge_backend.telemetry.line_protocol import encode_points  # noqa: E402
from surge_backend.telemetry.points import NS_PER_MS, Point, point_time_ns  # noqa: E402

T0_MS = 1_700_000_000_000
STORED_BEFORE = 2_000_000
SIZES = (1_000, 10_000)
REPEATS = {1_000: 15, 10_000: 7}
COLUMNS, TYPES = zip(*duckdb_store._COLUMNS, strict=True)
KEY = ("device", "name", "unit", "time_ns")
CONFLICT = f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in COLUMNS if name not in KEY
)
SAME = " AND ".join(f"t.{name} = a.{name}" for name in KEY)
OTHERS = [name for name in COLUMNS if name not in KEY]
MERGE = f"""
MERGE INTO telemetry AS t USING arriving AS a ON {SAME}
WHEN MATCHED AND ({" OR ".join(f"t.{name} IS DISTINCT FROM a.{name}" for name in OTHERS)})
    THEN UPDATE SET {", ".join(f"{name} = a.{name}" for name in OTHERS)}
WHEN NOT MATCHED THEN INSERT
"""
UNNEST = "SELECT " + ", ".join(f"unnest(?::{kind}[])" for kind in TYPES)

Row = tuple[Any, ...]
Connection = duckdb.DuckDBPyConnection
Way = Callable[[Connection, list[Row]], None]


def points(count: int, part: int) -> list[Point]:
    """Reports of 100 devices with 8 values each, a second apart."""
    made = []
    for i in range(count):
        report, index = divmod(i, 8)
        at_ms = T0_MS + part * 1_000_000 + report // 100 * 1000 + report % 100
        device = "d" + "".join("abcdefghij"[int(digit)] for digit in f"{report % 100:016d}")
        made.append(
            Point(device, f"n{index}/value", "s", point_time_ns(at_ms, 1, part * 10_000 + i, index), i / 3)
        )
    return made


# --- ways into DuckDB ---------------------------------------------------------------------------------------


def by_appender(connection: Connection, rows: list[Row]) -> None:
    with connection.appender("arriving") as appender:
        appender.append_rows(rows)


def by_unnest(connection: Connection, rows: list[Row]) -> None:
    connection.execute(f"INSERT INTO arriving {UNNEST}", [list(column) for column in zip(*rows, strict=True)])


def by_json(connection: Connection, rows: list[Row]) -> None:
    columns = dict(zip(COLUMNS, [list(column) for column in zip(*rows, strict=True)], strict=True))
    shape = json.dumps({name: [kind] for name, kind in zip(COLUMNS, TYPES, strict=True)})
    unnest = ", ".join(f"unnest(j.{name})" for name in COLUMNS)
    connection.execute(
        f"INSERT INTO arriving SELECT {unnest} FROM (SELECT from_json(?::JSON, '{shape}') AS j)",
        [json.dumps(columns)],
    )


def by_arrow(connection: Connection, rows: list[Row]) -> None:
    arrow = importlib.import_module("pyarrow")
    kinds = {
        "VARCHAR": "string",
        "BIGINT": "int64",
        "DOUBLE": "float64",
        "BOOLEAN": "bool_",
        "INTEGER": "int32",
    }
    arrays = [
        arrow.array(column, type=getattr(arrow, kinds[kind])())
        for column, kind in zip(zip(*rows, strict=True), TYPES, strict=True)
    ]
    connection.register("arrow_rows", arrow.table(arrays, names=list(COLUMNS)))
    connection.execute("INSERT INTO arriving SELECT * FROM arrow_rows")
    connection.unregister("arrow_rows")


def replaced(arrive: Way) -> Way:
    def write(connection: Connection, rows: list[Row]) -> None:
        connection.begin()
        connection.execute("DELETE FROM arriving")
        arrive(connection, rows)
        connection.execute(duckdb_store._REMOVE)
        connection.execute("INSERT INTO telemetry FROM arriving")
        connection.commit()

    return write


def merged(connection: Connection, rows: list[Row]) -> None:
    connection.begin()
    connection.execute("DELETE FROM arriving")
    by_appender(connection, rows)
    connection.execute(MERGE)
    connection.commit()


def appended(connection: Connection, rows: list[Row]) -> None:
    with connection.appender("telemetry") as appender:
        appender.append_rows(rows)


def keyed_appender(connection: Connection, rows: list[Row]) -> None:
    with connection.appender("telemetry", action="upsert") as appender:
        appender.append_rows(rows)


def keyed_unnest(connection: Connection, rows: list[Row]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)]
    connection.execute(f"INSERT INTO telemetry {UNNEST} {CONFLICT}", columns)


def keyed_executemany(connection: Connection, rows: list[Row]) -> None:
    connection.begin()
    connection.executemany(f"INSERT INTO telemetry VALUES (?, ?, ?, ?, ?, ?, ?, ?) {CONFLICT}", rows)
    connection.commit()


# name -> (primary key?, idempotent?, the way); the store's own comes first
WAYS: dict[str, tuple[bool, bool, Way]] = {
    "appender, DELETE, INSERT (the store's)": (False, True, duckdb_store._write),
    "appender, MERGE": (False, True, merged),
    "unnested lists, DELETE, INSERT": (False, True, replaced(by_unnest)),
    "JSON, DELETE, INSERT": (False, True, replaced(by_json)),
    "primary key, appender with upsert": (True, True, keyed_appender),
    "primary key, unnested lists, ON CONFLICT": (True, True, keyed_unnest),
    "appender alone: doubles a retry": (False, False, appended),
}
if importlib.util.find_spec("pyarrow"):
    WAYS["Arrow table, DELETE, INSERT"] = (False, True, replaced(by_arrow))


def table(folder: Path, *, keyed: bool, stored: int) -> Connection:
    """A file with ``stored`` points in it, the last a second before those of `points`."""
    folder.mkdir()
    connection = duckdb.connect(str(folder / "bench.duckdb"), config={"threads": 2})
    columns = ", ".join(f"{name} {kind}" for name, kind in duckdb_store._COLUMNS)
    key = f", PRIMARY KEY ({', '.join(KEY)})" if keyed else ""
    connection.execute(f"CREATE TABLE telemetry ({columns}{key})")
    connection.execute(f"CREATE TEMPORARY TABLE arriving ({columns})")
    time_ns = f"{(T0_MS - stored) * NS_PER_MS} + i::BIGINT * {NS_PER_MS}"
    connection.execute(
        f"INSERT INTO telemetry SELECT 'd' || (i % 100), 'n' || (i % 8), 's', {time_ns}, i, NULL, NULL, 0 "
        f"FROM range({stored}) AS r(i)"
    )
    connection.execute("CHECKPOINT")
    return connection


def rows_of(size: int, part: int, *, late: bool) -> list[Row]:
    """``late``: the times are spread over all that is stored."""
    rows = [duckdb_store._row(point) for point in points(size, part)]
    if not late:
        return rows
    step_ms = (STORED_BEFORE - 1000) // size
    back_ms = [part * 1_000_000 + i * step_ms for i in range(size)]
    return [(*row[:3], row[3] - ms * NS_PER_MS, *row[4:]) for row, ms in zip(rows, back_ms, strict=True)]


def measure(folder: Path, size: int, *, late: bool) -> dict[str, float]:
    """The median time of a write for each way, in ms. The ways take turns, so that all see the same
    machine."""
    connections = {
        way: table(folder / str(number), keyed=keyed, stored=STORED_BEFORE)
        for number, (way, (keyed, _, _)) in enumerate(WAYS.items())
    }
    spent: dict[str, list[float]] = {way: [] for way in WAYS}
    keys: set[Row] = set()
    rows: list[Row] = []
    for part in range(REPEATS[size]):
        rows = rows_of(size, part, late=late)
        keys.update(row[:4] for row in rows)
        for way, (_, _, write) in WAYS.items():
            start = time.perf_counter()
            write(connections[way], rows)
            spent[way].append(time.perf_counter() - start)
    for way, (_, idempotent, write) in WAYS.items():
        if idempotent:
            write(connections[way], rows)
            count = connections[way].execute("SELECT count(*) FROM telemetry").fetchall()[0][0]
            assert count - STORED_BEFORE == len(keys), f"{way} is not idempotent"
        connections[way].close()
    return {way: statistics.median(times) * 1000 for way, times in spent.items()}


def test_ways_into_duckdb() -> None:
    print(f"\nms per write, and ratio to the store's way; {STORED_BEFORE:,} points stored before")
    for size in SIZES:
        for late in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                times = measure(Path(folder), size, late=late)
            first = next(iter(times.values()))
            print(f"\n  {size:,} points, {'late, spread over all times' if late else 'newest'}")
            for way, took in times.items():
                print(f"    {way:42s}{took:10.1f}{took / first:8.2f}")


def test_executemany() -> None:
    rows = rows_of(1_000, 0, late=False)
    with tempfile.TemporaryDirectory() as folder:
        times = {}
        for way, keyed, write in (
            ("store", False, duckdb_store._write),
            ("executemany", True, keyed_executemany),
        ):
            with table(Path(folder, way), keyed=keyed, stored=0) as connection:
                start = time.perf_counter()
                write(connection, rows)
                times[way] = time.perf_counter() - start
    ratio = times["executemany"] / times["store"]
    print(f"\n  1,000 points into an empty table: executemany takes {ratio:.0f} times as long")


def test_line_protocol() -> None:
    some = points(10_000, 0)
    took = min(timeit.repeat(lambda: encode_points(some), number=1, repeat=5)) / len(some)
    print(f"\n  line protocol: {took * 1e6:.2f} us a point, {len(encode_points(some)) // len(some)} bytes")


async def _writes(settings: TelemetrySettings) -> float:
    store = make_store(settings)
    await store.open()
    spent = []
    for part in range(5):
        some = points(10_000, part)
        start = time.perf_counter()
        await store.write(some)
        spent.append(time.perf_counter() - start)
    assert await store.count() > 0
    await store.close()
    return statistics.median(spent)


def test_stores_end_to_end() -> None:
    print("\n  10,000 points in one write, through the port")
    with tempfile.TemporaryDirectory() as folder:
        took = asyncio.run(_writes(TelemetrySettings(path=f"{folder}/telemetry.duckdb")))
        print(f"    duckdb    {took * 1000:8.1f} ms {10_000 / took:10,.0f} points/s")
    makers: Sequence[tuple[str, Callable[[Path], Server], dict[str, Any]]] = (
        ("influx1", influx1_server, {"kind": "influx1"}),
        ("victoria", victoria_server, {"kind": "influx2", "query": "prometheus"}),
    )
    for name, make, given in makers:
        with tempfile.TemporaryDirectory() as folder:
            server = make(Path(folder))
            server.start()
            try:
                took = asyncio.run(_writes(TelemetrySettings(url=server.url, **given)))
            finally:
                server.kill()
            print(f"    {name:10s}{took * 1000:8.1f} ms {10_000 / took:10,.0f} points/s")


if __name__ == "__main__":
    test_ways_into_duckdb()
    test_line_protocol()
    test_stores_end_to_end()
