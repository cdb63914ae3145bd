"""The bound on series: the first ones in the order of the log, the same ones however a batch is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from surge_backend.db.schema import telemetry_series
from surge_backend.projection import StoredCursor, StoredPoints, make_projector
from surge_backend.projection.series import SeriesBound
from surge_backend.telemetry.duckdb_store import DuckDbStore
from surge_backend.telemetry.points import Point
from surge_backend.telemetry.store import StoreUnavailable, TelemetryQuery
from surge_wire.senml import make_record

NOW = 1_750_000_000_000


def send(world: Any, gateway: Any, device: Any, *names: str, unit: str = "Cel") -> None:
    world.send(gateway, device.next(pack=[make_record(name, unit, 1.0) for name in names], time_ms=NOW))


def shown(entries: Sequence[tuple[int, Sequence[Point]]], device: Any) -> list[list[str]]:
    return [[p.name + p.unit for p in points if p.device_id == device.id] for _, points in entries]


@pytest.mark.threat(18)
async def test_a_devices_first_series_are_kept_and_further_ones_counted(world: Any):
    gateway, device, other = world.gateway(), world.device(), world.device()
    send(world, gateway, device, "a", "b", "a")
    send(world, gateway, other, "c", "d", "e")
    send(world, gateway, device, "c", "a", "d")
    send(world, gateway, device, "a", unit="K")
    told: list[tuple[str, int]] = []
    source = StoredPoints(world.database, 3, lambda *left_out: told.append(left_out))
    entries = await source.read(0, 9)
    assert shown(entries, device) == [["aCel", "bCel", "aCel"], [], ["cCel", "aCel"], []]
    assert shown(entries, other) == [[], ["cCel", "dCel", "eCel"], [], []]
    assert told == [("series_limit", 2)]
    assert [position for position, _ in entries] == [1, 2, 3, 4]


async def test_reading_again_in_parts_or_by_another_process_gives_the_same(world: Any, reopen: Any):
    gateway, device = world.gateway(), world.device()
    for number in range(6):
        send(world, gateway, device, f"n{number}", "n0", f"m{number}")
    source = StoredPoints(world.database, 5)
    first = [await source.read(number, 1) for number in range(6)]
    whole = [entry for part in first for entry in part]
    assert shown(whole, device)[-1] == ["n0Cel"]
    assert await source.read(2, 2) == whole[2:4]
    assert await source.read(0, 9) == whole
    assert await StoredPoints(reopen(world).database, 5).read(0, 9) == whole
    with world.database.write() as connection:
        connection.execute(telemetry_series.delete())
    assert await StoredPoints(world.database, 5).read(0, 9) == whole


async def test_a_busy_database_admits_nothing_and_later_the_same(world: Any, reopen: Any):
    gateway, device = world.gateway(), world.device()
    send(world, gateway, device, "a", "b")
    source = StoredPoints(world.database, 1)
    with reopen(world).database.write(), pytest.raises(StoreUnavailable):
        await source.read(0, 9)
    assert world.rows(select(telemetry_series)) == []
    assert shown(await source.read(0, 9), device) == [["aCel"]]
    assert world.rows(select(telemetry_series)) == [(device.id, "a", "Cel", 0)]


def test_what_is_remembered_is_bounded_and_changes_nothing(world: Any):
    bound = SeriesBound(world.database, 4, remembered_max=3)
    points = [Point("d" + "a" * 16, f"n{i}", "", NOW * 1_000_000, 1.0) for i in range(6)]
    for log_index in range(3):
        assert bound.admit([(log_index, points[::-1][:2]), (log_index, points)]) == [
            [points[5], points[4]],
            [points[0], points[1], points[4], points[5]],
        ]
        assert len(bound._admitted) <= 3


async def test_a_rebuild_under_another_limit_starts_the_series_over(world: Any, tmp_path: Path):
    gateway, device = world.gateway(), world.device()
    send(world, gateway, device, "a", "b", "c")
    send(world, gateway, device, "d")
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    await store.open()

    async def names() -> list[str]:
        query = TelemetryQuery(device.id, NOW - 10**9, NOW + 10**9, limit=100)
        return sorted(sample.name for sample in await store.query(query))

    await make_projector(world.database, store, 1.0, 2).catch_up()
    assert await names() == ["a", "b"]
    for series_max, expected in ((3, ["a", "b", "c"]), (1, ["a"]), (2, ["a", "b"])):
        projector = make_projector(world.database, store, 1.0, series_max)
        await projector.rebuild()
        await projector.catch_up()
        assert await names() == expected
    assert await StoredCursor(world.database).load() == 2
    await store.close()
