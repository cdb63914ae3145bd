"""The contract of the telemetry store's port, run on the fake, DuckDB, InfluxDB 1.x and VictoriaMetrics.

An InfluxDB 2 takes part when SURGE_TEST_INFLUX2 names one as JSON: {"url", "org", "bucket", "token"}. Its
points go.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from surge_backend.telemetry.factory import TelemetrySettings, make_store
from surge_backend.telemetry.points import (
    NS_PER_MS,
    TIME_FROM_GATEWAY,
    TIME_SKEWED,
    Point,
    PointError,
    point_time_ns,
)
from surge_backend.telemetry.projector import Projector, ProjectorSettings
from surge_backend.telemetry.store import (
    AGGREGATES,
    Sample,
    StoreRejected,
    StoreUnavailable,
    TelemetryQuery,
    TelemetryStore,
)

sys.path.insert(0, str(Path(__file__).parent))
from telemetry_servers import MemoryStore, Server, influx1_server, victoria_server

T0_MS = 1_700_000_000_000  # a whole second; in the past, as VictoriaMetrics refuses the future
DEVICE = "daaaaaaaaaaaaaaaa"
VICTIM = "dzzzzzzzzzzzzzzzz"
DAY_MS = 86_400_000

HOSTILE_TEXTS = [
    "two\nlines",
    f"x\ntelemetry,device={VICTIM},name=cpu/load value=1,flags=0i {T0_MS * NS_PER_MS}",
    f'x" {T0_MS * NS_PER_MS}\ntelemetry,device={VICTIM},name=cpu/load value=1 {T0_MS * NS_PER_MS}\n#',
    f'",flags=0i 1\r\ntelemetry,device={VICTIM},name=a value=1 1',
    'quote " and comma , space = equals',
    "backslash \\ and at the end \\",
    "\\\\",
    '\\"',
    "\\u000a and \\n stay as they are",
    "NUL \x00 escape \x1b delete \x7f next line \x85",
    "line \u2028 paragraph \u2029 separators",
    "ünïcödé 温度 🌡 \u202e right to left",
    "'; DROP MEASUREMENT telemetry; --",
    " ",
    "x" * 256,
]
HOSTILE_UNITS = ["\\", "a\\", "a b", "a,b", "a=b", '"', "\\,", "\\ ", "a\\=b", "1 " * 16, ",unit=x value=1 1"]


@dataclass(frozen=True)
class Kind:
    """One implementation under test: `settings` for a fresh, empty store of it (None: the fake)."""

    name: str
    settings: Callable[[Path, str], TelemetrySettings] | None


def influx1_settings(server: Server, database: str) -> TelemetrySettings:
    return TelemetrySettings(kind="influx1", url=server.url, database=database, points_per_request_max=1_000)


def victoria_settings(server: Server) -> TelemetrySettings:
    return TelemetrySettings(kind="influx2", url=server.url, query="prometheus", points_per_request_max=1_000)


def server_settings(name: str, url: str, timeout_s: float = 10.0) -> TelemetrySettings:
    if name == "influx1":
        return TelemetrySettings(kind="influx1", url=url, timeout_s=timeout_s)
    return TelemetrySettings(kind="influx2", url=url, query="prometheus", timeout_s=timeout_s)


KINDS = ["memory", "duckdb", "influx1", "victoria"] + (
    ["influx2"] if "SURGE_TEST_INFLUX2" in os.environ else []
)


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    name = str(request.param)
    if name == "memory":
        yield Kind(name, None)
    elif name == "duckdb":
        yield Kind(name, lambda folder, _: TelemetrySettings(path=str(folder / "telemetry.duckdb")))
    elif name == "influx2":
        given = json.loads(os.environ["SURGE_TEST_INFLUX2"])
        yield Kind(name, lambda _, __: TelemetrySettings(kind="influx2", **given))
    else:
        folder = tmp_path_factory.mktemp(name)
        server = influx1_server(folder) if name == "influx1" else victoria_server(folder)
        server.start()
        try:
            if name == "influx1":
                yield Kind(name, lambda _, database: influx1_settings(server, database))
            else:
                yield Kind(name, lambda _, __: victoria_settings(server))
        finally:
            server.kill()


@pytest.fixture
async def store(kind: Kind, tmp_path: Path) -> AsyncIterator[TelemetryStore]:
    store: TelemetryStore = (
        MemoryStore() if kind.settings is None else make_store(kind.settings(tmp_path, tmp_path.name))
    )
    await store.open()
    await store.drop_all()
    yield store
    await store.close()


def point(
    at_ms: int, value: float | bool | str, name: str = "cpu/load", unit: str = "%", flags: int = 0
) -> Point:
    return Point(DEVICE, name, unit, (T0_MS + at_ms) * NS_PER_MS, value, flags)


def everything(device_id: str = DEVICE, limit: int = 10_000) -> TelemetryQuery:
    return TelemetryQuery(device_id, T0_MS - DAY_MS, T0_MS + DAY_MS, limit=limit)


def as_read(store: TelemetryStore, points: Sequence[Point]) -> list[Sample]:
    """What reading `points` gives: floats, at the store's resolution, in order."""
    unit_ns = store.capabilities.time_unit_ns
    samples = [
        Sample(
            p.device_id,
            p.name,
            p.unit,
            p.time_ns // unit_ns * unit_ns,
            float(p.value) if type(p.value) is int else p.value,
            p.flags,
        )
        for p in points
    ]
    return sorted(samples, key=lambda sample: (sample.time_ns, sample.name, sample.unit))


# --- values, order, ranges ----------------------------------------------------------------------------------


async def test_an_empty_store_answers_everything(store: TelemetryStore) -> None:
    assert await store.query(everything()) == []
    assert await store.latest(DEVICE) == []
    assert await store.count() == 0
    assert (await store.health()).ok
    await store.write([])


async def test_values_of_every_kind_come_back(store: TelemetryStore) -> None:
    values: list[float | bool | str] = [0, 1, -7, 2**53, 0.1, -273.15, 6.02e23, 1e-9, True, False]
    if store.capabilities.text:
        values += ["on", ""]
    # A series of its own for each: VictoriaMetrics packs a block's floats with a common exponent.
    points = [point(i, value, name=f"v{i}", flags=i % 8) for i, value in enumerate(values)]
    await store.write(points)
    samples = await store.query(everything())
    assert samples == as_read(store, points)
    assert [type(sample.value) for sample in samples] == [type(s.value) for s in as_read(store, points)]


async def test_nanoseconds_are_kept_where_the_store_can(store: TelemetryStore) -> None:
    points = [
        Point(DEVICE, f"n{seq}", "", point_time_ns(T0_MS + seq, boot=1, seq=seq, index=0), seq)
        for seq in range(5)
    ]
    await store.write(points)
    assert await store.query(everything()) == as_read(store, points)


async def test_order_is_time_then_name_then_unit_whatever_the_order_of_writes(store: TelemetryStore) -> None:
    points = [
        point(at, at, name=name, unit=unit)
        for at in (0, 1, 2)
        for name in ("b", "a")
        for unit in ("s", "", "m")
    ]
    await store.write(points[::-1][::2])
    await store.write(points[::2])
    await store.write(points)
    assert await store.query(everything()) == as_read(store, points)


async def test_a_range_takes_its_start_and_leaves_its_end(store: TelemetryStore) -> None:
    points = [point(at, at) for at in range(10)]
    # The last nanosecond before the range's end, and of the millisecond before its start.
    points += [
        Point(DEVICE, "edge", "", (T0_MS + 6) * NS_PER_MS - 1, 1.0),
        Point(DEVICE, "edge", "", (T0_MS + 3) * NS_PER_MS - 1, 1.0),
    ]
    await store.write(points)
    found = await store.query(TelemetryQuery(DEVICE, T0_MS + 3, T0_MS + 6))
    inside = [p for p in points if (T0_MS + 3) * NS_PER_MS <= p.time_ns < (T0_MS + 6) * NS_PER_MS]
    assert len(inside) == 4
    assert found == as_read(store, inside)


async def test_a_query_sees_one_device_and_one_name(store: TelemetryStore) -> None:
    points = [point(1, 1.0, name="a"), point(1, 2.0, name="a.b"), point(1, 3.0, name="aXb")]
    other = Point(VICTIM, "a", "%", points[0].time_ns, 9.0)
    await store.write([*points, other])
    only = TelemetryQuery(DEVICE, T0_MS, T0_MS + DAY_MS, name="a.b")
    assert await store.query(only) == as_read(store, points[1:2])
    assert await store.query(everything()) == as_read(store, points)
    assert await store.query(everything(VICTIM)) == as_read(store, [other])


async def test_the_limit_keeps_the_oldest_of_all_names(store: TelemetryStore) -> None:
    points = [point(at, at, name=name) for at in range(10) for name in ("a", "b", "c")]
    await store.write(points)
    assert await store.query(everything(limit=7)) == as_read(store, points)[:7]
    windows = TelemetryQuery(DEVICE, T0_MS, T0_MS + 10, limit=7, window_ms=1, aggregate="mean")
    assert [(s.time_ns, s.name) for s in await store.query(windows)] == [
        (s.time_ns, s.name) for s in as_read(store, points)[:7]
    ]


@pytest.mark.parametrize("aggregate", AGGREGATES)
async def test_windows_are_aligned_and_take_only_numbers_of_the_range(
    store: TelemetryStore, aggregate: str
) -> None:
    # One before the range, two in its first window (which the range cuts), none in the second, three in the
    # third.
    numbers = {4: 100.0, 5: 1.0, 9: 4.0, 20: 2.0, 21: -8.0, 29: 3.0, 30: 50.0}
    points = [point(at, value) for at, value in numbers.items()]
    points += [point(at, at % 2 == 0, name="switch") for at in range(10)]
    if store.capabilities.text:
        points += [point(22, "a text", name="text")]
    await store.write(points)
    query = TelemetryQuery(DEVICE, T0_MS + 5, T0_MS + 30, window_ms=10, aggregate=aggregate)  # type: ignore[arg-type]
    expected = {
        "mean": [2.5, -1.0],
        "min": [1.0, -8.0],
        "max": [4.0, 3.0],
        "count": [2, 3],
        "last": [4.0, 3.0],
    }[aggregate]
    found = await store.query(query)
    assert [sample.value for sample in found] == pytest.approx(expected)
    assert [sample.time_ns for sample in found] == [T0_MS * NS_PER_MS, (T0_MS + 20) * NS_PER_MS]
    assert {(sample.name, sample.unit) for sample in found} == {("cpu/load", "%")}


async def test_latest_gives_the_newest_of_each_series(store: TelemetryStore) -> None:
    points = [
        point(at, at, name=name, unit=unit)
        for at in (5, 1, 3)
        for name, unit in (("b", ""), ("a", "s"), ("a", "m"))
    ]
    points.append(point(9, True, name="switch", flags=TIME_FROM_GATEWAY | TIME_SKEWED))
    other = Point(VICTIM, "a", "s", (T0_MS + 99) * NS_PER_MS, 1.0)
    await store.write([*points, other])
    newest = as_read(store, [*points[:3], points[-1]])
    assert await store.latest(DEVICE) == sorted(newest, key=lambda sample: (sample.name, sample.unit))


# --- idempotence, size, concurrency -------------------------------------------------------------------------


async def test_writing_again_changes_nothing(store: TelemetryStore) -> None:
    points = [point(at, at / 2, flags=1) for at in range(100)]
    await store.write(points)
    await store.write(points[50:])
    await store.write(points + points)
    assert await store.count() == 100
    assert await store.query(everything()) == as_read(store, points)


async def test_the_newest_write_under_a_key_wins(store: TelemetryStore) -> None:
    await store.write([point(0, 1.0, flags=1), point(1, 5.0)])
    await store.write([point(0, 2.0), point(0, 3.0, flags=2)])
    # VictoriaMetrics can't replace: it keeps both, and the greatest is read, which is the newest here.
    assert await store.query(everything()) == as_read(store, [point(0, 3.0, flags=2), point(1, 5.0)])
    assert await store.count() == 2


async def test_a_write_may_be_larger_than_one_request(store: TelemetryStore) -> None:
    points = [point(at, at % 97, name=f"n{at % 7}") for at in range(4_500)]
    await store.write(points)
    assert await store.count() == len(points)
    assert await store.query(everything()) == as_read(store, points)


async def test_calls_may_overlap(store: TelemetryStore) -> None:
    parts = [[point(at * 10 + part, at, name=f"part{part}") for at in range(50)] for part in range(8)]
    await asyncio.gather(
        *(store.write(part) for part in parts), *(store.query(everything()) for _ in range(8))
    )
    assert await store.query(everything()) == as_read(store, [p for part in parts for p in part])


async def test_dropped_and_written_again_it_is_the_same(store: TelemetryStore) -> None:
    points = [point(at, at * 1.5, name=name, flags=at % 4) for at in range(50) for name in ("a", "b")]
    await store.write(points)
    before = await store.query(everything())
    await store.drop_all()
    assert await store.query(everything()) == []
    assert await store.count() == 0
    await store.drop_all()
    await store.write(points)
    assert await store.query(everything()) == before == as_read(store, points)


# --- hostile input ------------------------------------------------------------------------------------------


@pytest.mark.threat(20)
async def test_row_20_texts_stay_texts(store: TelemetryStore) -> None:
    guard = Point(VICTIM, "cpu/load", "", T0_MS * NS_PER_MS, 42.0)
    points = [point(i, text, name=f"t{i}") for i, text in enumerate(HOSTILE_TEXTS)]
    await store.write([guard])
    if store.capabilities.text:
        await store.write(points)
        assert await store.query(everything()) == as_read(store, points)
        assert await store.count() == 1 + len(points)
    else:
        with pytest.raises(StoreRejected) as caught:
            await store.write([*points, point(0, 1.0)])
        assert [item.point for item in caught.value.rejected] == points
        assert await store.query(everything()) == as_read(store, [point(0, 1.0)])
        assert await store.count() == 2
    assert await store.query(everything(VICTIM)) == as_read(store, [guard])


@pytest.mark.threat(20)
async def test_row_20_units_stay_units(store: TelemetryStore) -> None:
    points = [point(i, 1.0, unit=unit) for i, unit in enumerate(HOSTILE_UNITS)]
    await store.write(points)
    assert await store.query(everything()) == as_read(store, points)
    assert {s.unit for s in await store.latest(DEVICE)} == set(HOSTILE_UNITS)


@pytest.mark.threat(20)
@pytest.mark.parametrize(
    "device_id",
    [
        "",
        "d",
        VICTIM + "\n",
        f"{VICTIM}' OR '1'='1",
        'd"} or {device="',
        "daaaaaaaaaaaaaaa*",
        "gaaaaaaaaaaaaaaaa",
    ],
)
async def test_row_20_a_query_takes_only_a_device_id(store: TelemetryStore, device_id: str) -> None:
    with pytest.raises(PointError):
        await store.query(TelemetryQuery(device_id, T0_MS, T0_MS + 1))


@pytest.mark.threat(20)
async def test_row_20_a_forged_time_overwrites_no_other_report(store: TelemetryStore) -> None:
    first = Point(DEVICE, "cpu/load", "%", point_time_ns(T0_MS, boot=1, seq=1, index=0), 1.0)
    forged = Point(DEVICE, "cpu/load", "%", point_time_ns(T0_MS, boot=1, seq=2, index=0), 2.0)
    await store.write([first])
    await store.write([forged])
    kept = [first, forged] if store.capabilities.time_unit_ns == 1 else [forged]
    assert await store.query(everything()) == as_read(store, kept)


# --- faults -------------------------------------------------------------------------------------------------


class Log:
    """Accepted reports: one entry for each index from 1, `points_each` points in each; holds at
    `gate_after`."""

    def __init__(self, entries: int, points_each: int, gate_after: int) -> None:
        self.entries = [
            (index, [point(index * 1000 + i, index * 1000 + i, name=f"n{i}") for i in range(points_each)])
            for index in range(1, entries + 1)
        ]
        self._gate_after = gate_after
        self.gate_reached = asyncio.Event()
        self.gate = asyncio.Event()

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[Point]]]:
        if after >= self._gate_after:
            self.gate_reached.set()
            await self.gate.wait()
        return [entry for entry in self.entries if entry[0] > after][:limit]

    @property
    def points(self) -> list[Point]:
        return [p for _, points in self.entries for p in points]


class MemoryCursor:
    def __init__(self) -> None:
        self.index = 0

    async def load(self) -> int:
        return self.index

    async def save(self, index: int) -> None:
        self.index = index


class FailureClock:
    """Real time, but back-off takes none, and the first sleep for a failure is told."""

    def __init__(self) -> None:
        self.slept = asyncio.Event()
        self.up_again = asyncio.Event()

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.slept.set()
            await self.up_again.wait()
        await asyncio.sleep(0)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        await event.wait()


@pytest.fixture(params=["influx1", "victoria"])
def crashing_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    server = influx1_server(tmp_path) if request.param == "influx1" else victoria_server(tmp_path)
    server.start()
    yield server
    server.kill()


async def test_a_server_killed_midway_loses_and_doubles_nothing(crashing_server: Server) -> None:
    if "influxd" in crashing_server.command[0]:
        store = make_store(influx1_settings(crashing_server, "surge"))
    else:
        store = make_store(victoria_settings(crashing_server))
    log, cursor, clock = Log(entries=40, points_each=25, gate_after=20), MemoryCursor(), FailureClock()
    projector = Projector(log, cursor, store, ProjectorSettings(entries_max=5, points_max=60), clock)
    running = asyncio.create_task(projector.run())
    try:
        await log.gate_reached.wait()
        assert projector.stats.written == 20 * 25
        crashing_server.kill()
        log.gate.set()
        await clock.slept.wait()
        assert projector.stats.retries == 1
        assert "can't be reached" in projector.stats.last_error
        assert not (await store.health()).ok
        with pytest.raises(StoreUnavailable):
            await store.query(everything())
        crashing_server.start()
        clock.up_again.set()
        await _until(lambda: projector.stats.position == 40, projector, running)
        assert await store.query(everything()) == as_read(store, log.points)
        assert await store.count() == len(log.points)
        assert projector.stats.last_error == ""
        # VictoriaMetrics loses what it had in memory, so everything was written again.
        assert projector.stats.rewinds == (1 if store.capabilities.durability_lag_ms else 0)
    finally:
        running.cancel()
        await asyncio.wait({running})
        await store.close()


async def _until(done: Callable[[], bool], projector: Projector, running: asyncio.Task[None]) -> None:
    """Lets the projector run until `done`; its own end is a failure."""
    while not done():
        if running.done():
            running.result()
            pytest.fail("the projector ended")
        projector.notify()
        await asyncio.sleep(0)


@pytest.mark.parametrize("name", ["duckdb", "influx1", "victoria"])
async def test_a_server_that_is_not_there_is_unavailable(name: str, tmp_path: Path) -> None:
    if name == "duckdb":
        (tmp_path / "file").write_text("in the way", encoding="utf-8")
        settings = TelemetrySettings(path=str(tmp_path / "file" / "telemetry.duckdb"))
    else:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        settings = server_settings(name, f"http://127.0.0.1:{port}")
    store = make_store(settings)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.write([point(0, 1.0)]),
        lambda: store.query(everything()),
        lambda: store.latest(DEVICE),
        store.count,
        store.drop_all,
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable) as caught:
            await call()
        assert caught.value.remedy
    health = await store.health()
    assert not health.ok
    await store.close()


@pytest.mark.parametrize("name", ["influx1", "victoria"])
async def test_a_server_that_never_answers_is_unavailable(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = make_store(server_settings(name, url, timeout_s=0.2))
        with pytest.raises(StoreUnavailable):
            await store.write([point(0, 1.0)])
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            await store.query(everything())
        await store.close()


# --- credentials --------------------------------------------------------------------------------------------

USER, SECRET, WRONG = "surge", "right-secret-0123", "wrong-secret-4567"


@pytest.fixture(params=["influx1", "victoria"])
def locked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., TelemetrySettings]]:
    """A server that asks for credentials; makes settings with those given."""
    if request.param == "influx1":
        server = influx1_server(tmp_path, auth=True)
        server.start()
        _influx1(server, f"CREATE USER {USER} WITH PASSWORD '{SECRET}' WITH ALL PRIVILEGES")
        kind, dialect = "influx1", "influxql"
    else:
        server = victoria_server(tmp_path, f"-httpAuth.username={USER}", f"-httpAuth.password={SECRET}")
        server.start()
        kind, dialect = "influx2", "prometheus"
    yield lambda **given: TelemetrySettings(kind=kind, url=server.url, query=dialect, **given)  # type: ignore[arg-type]
    server.kill()


def _influx1(server: Server, statement: str, database: str = "") -> None:
    body = urlencode({"q": statement, "db": database}).encode()
    with urlopen(Request(f"{server.url}/query", data=body)) as answer:
        assert b"error" not in answer.read()


async def test_right_credentials_open_the_door(locked: Callable[..., TelemetrySettings]) -> None:
    store = make_store(locked(user=USER, password=SECRET))
    await store.write([point(0, 1.0)])
    assert await store.query(everything()) == as_read(store, [point(0, 1.0)])
    await store.drop_all()
    assert (await store.health()).ok
    await store.close()


@pytest.mark.threat(25)
@pytest.mark.parametrize(
    "given", [{}, {"user": USER, "password": WRONG}, {"token": WRONG}], ids=["none", "user", "token"]
)
async def test_wrong_credentials_are_told_without_the_secret(
    locked: Callable[..., TelemetrySettings], given: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    settings = locked(**given)
    store = make_store(settings)
    with pytest.raises(StoreUnavailable) as on_write:
        await store.write([point(0, 1.0)])
    with pytest.raises(StoreUnavailable) as on_query:
        await store.query(everything())
    health = await store.health()
    await store.close()
    assert not health.ok
    assert "check the telemetry store's token" in on_write.value.remedy
    shown = (
        f"{on_write.value} {on_write.value.__cause__!r} {on_query.value} {health} {settings} {caplog.text}"
    )
    assert WRONG not in shown


# --- points that never fit ----------------------------------------------------------------------------------


async def test_influx1_names_only_the_points_that_it_refuses(tmp_path: Path) -> None:
    server = influx1_server(tmp_path)
    server.start()
    try:
        # Points older than the retention policy never fit; the others of the same request do.
        _influx1(server, 'CREATE DATABASE "surge" WITH DURATION 1h')
        now_ns = time.time_ns()
        store = make_store(influx1_settings(server, "surge"))
        new = [Point(DEVICE, f"n{i}", "", now_ns - i, float(i)) for i in range(40)]
        old = [point(i, 1.0) for i in range(3)]
        mixed = [*new[:10], old[0], *new[10:30], old[1], old[2], *new[30:]]
        with pytest.raises(StoreRejected) as caught:
            await store.write(mixed)
        assert [item.point for item in caught.value.rejected] == old
        assert all("retention" in item.reason for item in caught.value.rejected)
        assert await store.count() == len(new)
        await store.close()
    finally:
        server.kill()


async def test_influx2_reads_what_is_there_through_influxql(tmp_path: Path) -> None:
    """InfluxDB 2's own server isn't packaged; its read path speaks to 1.x, which takes the same queries."""
    server = influx1_server(tmp_path)
    server.start()
    try:
        writer = make_store(influx1_settings(server, "bucket"))
        points = [point(at, at / 3, name=name) for at in range(20) for name in ("a", "b")]
        points.append(point(5, "text \\ \n", name="t"))
        await writer.write(points)
        reader = make_store(
            TelemetrySettings(kind="influx2", url=server.url, org="o", bucket="bucket", token="t" * 20)
        )
        assert await reader.query(everything()) == as_read(reader, points)
        assert await reader.latest(DEVICE) == await writer.latest(DEVICE)
        assert await reader.count() == len(points)
        assert (await reader.health()).ok
        # 1.x has no /api/v2/write: that is an answer of 404, and a remedy.
        with pytest.raises(StoreUnavailable, match="404"):
            await reader.write([point(0, 1.0)])
        await reader.close()
        await writer.close()
    finally:
        server.kill()
