"""Accepted reports as points: times that can be believed, names that can't be chosen, the same at every
rebuild."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surge_backend.db.bulk import execute
from surge_backend.projection import StoredCursor, StoredPoints, make_projector
from surge_backend.projection.times import (
    SPOOLED_MS_MAX,
    TIME_FUTURE_MS_MAX,
    TIME_PAST_MS_MAX,
    BelievedTime,
    record_time,
    reference_time,
    report_time,
)
from surge_backend.telemetry.duckdb_store import DuckDbStore
from surge_backend.telemetry.points import AGGREGATED, NS_PER_MS, TIME_FROM_GATEWAY, TIME_SKEWED, Point
from surge_backend.telemetry.store import StoreUnavailable, TelemetryQuery
from surge_wire.batch import Window
from surge_wire.senml import make_record

NOW = 1_750_000_000_000


def ms(point: Point) -> int:
    return point.time_ns // NS_PER_MS


@pytest.mark.threat(7)
@pytest.mark.parametrize(
    ("gateway_ms", "expected"),
    [
        (NOW - 5, BelievedTime(NOW - 5, 0)),
        (NOW, BelievedTime(NOW, 0)),
        (NOW + 1, BelievedTime(NOW, TIME_SKEWED)),
        (NOW - SPOOLED_MS_MAX, BelievedTime(NOW - SPOOLED_MS_MAX, 0)),
        (NOW - SPOOLED_MS_MAX - 1, BelievedTime(NOW, TIME_SKEWED)),
        (0, BelievedTime(NOW, TIME_SKEWED)),
    ],
)
def test_a_gateways_clock_is_bounded_by_the_backends(gateway_ms: int, expected: BelievedTime):
    assert reference_time(gateway_ms, NOW) == expected


@pytest.mark.threat(7)
@pytest.mark.parametrize(
    ("device_ms", "expected"),
    [
        (None, BelievedTime(NOW, TIME_FROM_GATEWAY)),
        (NOW - 1_000, BelievedTime(NOW - 1_000, 0)),
        (NOW + TIME_FUTURE_MS_MAX, BelievedTime(NOW + TIME_FUTURE_MS_MAX, 0)),
        (NOW + TIME_FUTURE_MS_MAX + 1, BelievedTime(NOW, TIME_SKEWED)),
        (NOW - TIME_PAST_MS_MAX, BelievedTime(NOW - TIME_PAST_MS_MAX, 0)),
        (NOW - TIME_PAST_MS_MAX - 1, BelievedTime(NOW, TIME_SKEWED)),
        (0, BelievedTime(NOW, TIME_SKEWED)),  # 1970
        ((1 << 31) * 1_000, BelievedTime(NOW, TIME_SKEWED)),  # 2038
        ((1 << 53) - 1, BelievedTime(NOW, TIME_SKEWED)),
    ],
)
def test_a_devices_clock_is_bounded_by_the_gateways(device_ms: int | None, expected: BelievedTime):
    assert report_time(device_ms, BelievedTime(NOW, 0)) == expected


@pytest.mark.parametrize(
    ("time_s", "expected"),
    [
        (0, BelievedTime(NOW - 100, 0)),
        (-2.5, BelievedTime(NOW - 2_600, 0)),
        (NOW // 1000, BelievedTime(NOW, 0)),
        (1 << 28, BelievedTime(NOW - 100, TIME_SKEWED)),
        (-1e300, BelievedTime(NOW - 100, TIME_SKEWED)),
        (1e300, BelievedTime(NOW - 100, TIME_SKEWED)),
        (3_600, BelievedTime(NOW - 100, TIME_SKEWED)),
    ],
)
def test_a_records_own_time_is_relative_or_absolute_and_bounded(time_s: float, expected: BelievedTime):
    assert record_time(time_s, BelievedTime(NOW - 100, 0), BelievedTime(NOW, 0)) == expected


def test_a_relative_time_keeps_the_flags_of_its_report():
    report = BelievedTime(NOW, TIME_FROM_GATEWAY)
    assert record_time(-1, report, BelievedTime(NOW, 0)) == BelievedTime(NOW - 1_000, TIME_FROM_GATEWAY)


times = st.integers(0, (1 << 53) - 1) | st.integers(NOW - 2 * SPOOLED_MS_MAX, NOW + 2 * SPOOLED_MS_MAX)


@given(
    times,
    times | st.none(),
    st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(1 << 64), 1 << 64),
)
@pytest.mark.threat(7)
def test_whatever_clocks_say_a_point_is_near_the_backends_time(
    gateway_ms: int, device_ms: int | None, time_s: float
):
    reference = reference_time(gateway_ms, NOW)
    believed = record_time(time_s, report_time(device_ms, reference), reference)
    assert NOW - SPOOLED_MS_MAX - TIME_PAST_MS_MAX <= believed.time_ms <= NOW + TIME_FUTURE_MS_MAX


async def read_all(world: Any) -> list[tuple[int, list[Point]]]:
    return [(position, list(points)) for position, points in await StoredPoints(world.database).read(0, 100)]


async def test_only_accepted_reports_have_points_under_the_proven_device(world: Any):
    gateway, device, other = world.gateway(), world.device(), world.device()
    good = device.next(
        pack=[make_record("t", "Cel", 21.5), make_record("up", "", True), make_record("s", "", "on")]
    )
    forged = other.seal(1, 0, key=bytes(32))
    world.send(gateway, forged, good, good)
    [(position, points)] = await read_all(world)
    assert position == 1
    assert [(p.device_id, p.name, p.unit, p.value) for p in points] == [
        (device.id, "t", "Cel", 21.5),
        (device.id, "up", "", True),
        (device.id, "s", "", "on"),
    ]
    assert {p.flags for p in points} == {TIME_FROM_GATEWAY}
    assert {ms(p) for p in points} == {world.now_ms}
    assert len({p.time_ns for p in points}) == 3


async def test_batches_come_in_the_logs_order_and_in_parts(world: Any):
    gateway, device = world.gateway(), world.device()
    for _ in range(5):
        world.send(gateway, device.next(samples=1, time_ms=world.now_ms))
    source = StoredPoints(world.database)
    assert [position for position, _ in await source.read(0, 2)] == [1, 2]
    assert [position for position, _ in await source.read(2, 9)] == [3, 4, 5]
    assert await source.read(5, 9) == []


async def test_sums_have_points_of_their_own_and_too_long_names_are_left_out(world: Any):
    gateway, device = world.gateway(), world.device()
    pack = [{0: "e", 1: "J", 5: 7}, {0: "n" * 64, 1: "J", 2: 1, 5: 7}]
    world.send(gateway, device.next(pack=pack))
    left_out: list[tuple[str, int]] = []
    source = StoredPoints(world.database, on_left_out=lambda *told: left_out.append(told))
    [(_, points)] = await source.read(0, 9)
    assert [(p.name, p.value) for p in points] == [("e/sum", 7), ("n" * 64, 1)]
    assert left_out == [("unfit", 1)]


@pytest.mark.threat(8)
async def test_windows_are_flagged_and_only_from_the_devices_own_gateway(world: Any):
    owner = world.owner()
    gateway = world.gateway(owner)
    enrolled_here, unbound, foreign = world.device(gateway=gateway), world.device(owner), world.device()
    elsewhere = world.device(owner, world.gateway())
    start = world.now_ms - 60_000
    windows = [
        Window(d.id, "t", "Cel", start, world.now_ms, 12, 20, 21.5, 23)
        for d in (enrolled_here, unbound, foreign, elsewhere)
    ]
    world.send(gateway, windows=windows)
    [(_, points)] = await read_all(world)
    assert {p.device_id for p in points} == {enrolled_here.id, unbound.id}
    assert [(p.name, p.unit, p.value) for p in points[:4]] == [
        ("t/count", "count", 12),
        ("t/min", "Cel", 20),
        ("t/mean", "Cel", 21.5),
        ("t/max", "Cel", 23),
    ]
    assert {(p.flags, ms(p)) for p in points} == {(AGGREGATED, start)}


async def test_a_device_that_moves_later_does_not_change_the_past(world: Any):
    gateway, device = world.gateway(), world.device()
    world.send(gateway, windows=[Window(device.id, "t", "Cel", 1, 2, 1, 1, 1.0, 1)])
    before = await read_all(world)
    with world.database.write() as connection:
        execute(connection, "UPDATE devices SET gateway_id = {}", gateway.id)
    assert before == await read_all(world) == [(1, [])]


async def test_the_cursor_lasts(world: Any, reopen: Any):
    cursor = StoredCursor(world.database)
    assert await cursor.load() == 0
    await cursor.save(7)
    assert await StoredCursor(reopen(world).database).load() == 7


async def test_a_busy_database_is_for_later(world: Any):
    with world.database.write(), pytest.raises(StoreUnavailable):
        await StoredCursor(world.database).save(1)


async def test_a_store_that_is_dropped_and_rebuilt_comes_out_the_same(world: Any, tmp_path: Any):
    """Invariant 5, through the real projector and a real store."""
    gateway, device, other = world.gateway(), world.device(), world.device()
    for number in range(9):
        world.now_ms += 1_000
        sealed = [device.next(samples=4, time_ms=world.now_ms if number % 2 else None), other.next(time_ms=0)]
        windows = [Window(device.id, "w", "%", world.now_ms - 9, world.now_ms, 2, 1, 1.5, 2)]
        world.send(gateway, *sealed, sealed[0], windows=windows)
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    await store.open()

    async def everything() -> list[Any]:
        return [
            sample
            for board in (device, other)
            for sample in await store.query(TelemetryQuery(board.id, NOW - 10**9, NOW + 10**9, limit=10_000))
        ]

    projector = make_projector(world.database, store, 1.0)
    await projector.catch_up()
    first = await everything()
    assert len(first) == 9 * 7
    await projector.rebuild()
    await projector.catch_up()
    assert await everything() == first
    assert await StoredCursor(world.database).load() == 9
    await store.close()
