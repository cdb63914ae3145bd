"""The projector against faults: nothing lost, nothing ahead of what is stored, memory bounded, no sleep in
real time."""

import asyncio
from collections.abc import Sequence

import pytest

from surge_backend.telemetry.points import Point
from surge_backend.telemetry.projection import ProjectorSettings
from surge_backend.telemetry.projector import Projector
from surge_backend.telemetry.store import (
    RejectedPoint,
    Sample,
    StoreCapabilities,
    StoreHealth,
    StoreRejected,
    StoreUnavailable,
    TelemetryQuery,
)

T0_NS = 1_700_000_000_000_000_000
SETTINGS = ProjectorSettings(entries_max=10, points_max=25, backoff_first_s=1.0, backoff_max_s=60.0)


def entry(index: int, count: int = 3) -> tuple[int, list[Point]]:
    return index, [
        Point("dabcdefghijklmno2", f"n{i}", "", T0_NS + index * 1000 + i, float(index)) for i in range(count)
    ]


class World:
    """A source, a cursor, a store and a clock in one, which write down what is done to them and fail when
    told to."""

    def __init__(self, entries: Sequence[tuple[int, list[Point]]] = (), lag_ms: int = 0) -> None:
        self.entries = list(entries)
        self.capabilities = StoreCapabilities(durability_lag_ms=lag_ms)
        self.stored: dict[tuple[str, str, str, int], Point] = {}
        self.unflushed: dict[tuple[str, str, str, int], Point] = {}
        self.saved = 0
        self.events: list[str] = []
        self.failures: list[StoreUnavailable] = []  # each raised once, by the next write
        self.source_failures: list[StoreUnavailable] = []
        self.cursor_failures: list[StoreUnavailable] = []
        self.refused: set[Point] = set()
        self.instance = "first"
        self.now_s = 0.0
        self.sleeps: list[float] = []
        self.reads: list[int] = []
        self.waiting = asyncio.Event()

    # the source
    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[Point]]]:
        if self.source_failures:
            raise self.source_failures.pop(0)
        found = [item for item in self.entries if item[0] > after][:limit]
        self.reads.append(len(found))
        return found

    # the cursor
    async def load(self) -> int:
        return self.saved

    async def save(self, index: int) -> None:
        if self.cursor_failures:
            raise self.cursor_failures.pop(0)
        self.saved = index
        self.events.append(f"save {index}")

    # the store
    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def write(self, points: Sequence[Point]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.events.append(f"write {len(points)}")
        kept = self.unflushed if self.capabilities.durability_lag_ms else self.stored
        kept.update({point.key: point for point in points if point not in self.refused})
        refused = [RejectedPoint(point, "refused") for point in points if point in self.refused]
        if refused:
            raise StoreRejected(refused)

    async def query(self, query: TelemetryQuery) -> list[Sample]:
        raise NotImplementedError

    async def latest(self, device_id: str) -> list[Sample]:
        raise NotImplementedError

    async def count(self) -> int:
        return len(self.stored | self.unflushed)

    async def drop_all(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.events.append("drop")
        self.stored.clear()
        self.unflushed.clear()

    async def health(self) -> StoreHealth:
        return StoreHealth(True, "fake", self.instance)

    def flush(self) -> None:
        self.stored |= self.unflushed
        self.unflushed.clear()

    def crash(self) -> None:
        self.unflushed.clear()
        self.instance += " and another"

    # the clock
    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.sleeps.append(seconds)
        await asyncio.sleep(0)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        self.waiting.set()
        await event.wait()

    def projector(
        self, settings: ProjectorSettings = SETTINGS, jitter: float = 1.0, **more: object
    ) -> Projector:
        return Projector(self, self, self, settings, self, jitter=lambda: jitter, **more)  # type: ignore[arg-type]

    def all_points(self) -> dict[tuple[str, str, str, int], Point]:
        return {point.key: point for _, points in self.entries for point in points}


def down(retry_after_s: float | None = None) -> StoreUnavailable:
    return StoreUnavailable("down", "wait", retry_after_s)


async def test_the_cursor_follows_what_is_written() -> None:
    world = World([entry(index) for index in range(1, 24)])
    projector = world.projector()
    await projector.catch_up()
    # 10 entries are 30 points: 8 entries fit into a write of 25.
    assert world.events == [
        "write 24",
        "write 6",
        "save 10",
        "write 24",
        "write 6",
        "save 20",
        "write 9",
        "save 23",
    ]
    assert world.stored == world.all_points()
    stats = projector.stats
    assert (stats.position, stats.saved, stats.written, stats.lag) == (23, 23, 69, 0)


async def test_entries_without_points_and_with_too_many() -> None:
    world = World([entry(1, 0), entry(2, 60), entry(3, 0), entry(4, 1)])
    await world.projector().catch_up()
    assert world.events == ["write 25", "write 25", "write 10", "write 1", "save 4"]
    assert world.stored == world.all_points()


async def test_a_store_down_for_an_hour_costs_time_only() -> None:
    world = World([entry(index) for index in range(1, 200)])
    world.failures = [down() for _ in range(70)]
    projector = world.projector()
    seen_positions = set()

    async def watch() -> None:
        while world.failures:
            seen_positions.add((projector.stats.position, world.saved))
            await asyncio.sleep(0)

    await asyncio.gather(projector.catch_up(), watch())
    assert sum(world.sleeps) >= 3600
    assert world.sleeps[:7] == [1.0, 0.0, 2.0, 0.0, 4.0, 0.0, 8.0]
    assert max(world.sleeps) == SETTINGS.backoff_max_s
    assert seen_positions == {(0, 0)}
    assert max(world.reads) <= SETTINGS.entries_max  # never more than one read in memory
    assert world.stored == world.all_points()
    assert (projector.stats.retries, projector.stats.last_error) == (70, "")
    assert projector.stats.written == len(world.stored)


async def test_thousands_of_failures_overflow_nothing() -> None:
    world = World([entry(1)])
    world.failures = [down() for _ in range(3_000)]
    await world.projector().catch_up()
    assert world.stored == world.all_points()


@pytest.mark.parametrize(("jitter", "first_s"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
async def test_back_off_is_jittered(jitter: float, first_s: float) -> None:
    world = World([entry(1)])
    world.failures = [down()]
    await world.projector(jitter=jitter).catch_up()
    assert world.sleeps[0] == first_s


@pytest.mark.parametrize(("asked_s", "slept_s"), [(0.0, 1.0), (30.0, 30.0), (86_400.0, 60.0)])
async def test_the_stores_own_wish_is_followed_up_to_the_cap(asked_s: float, slept_s: float) -> None:
    world = World([entry(1)])
    world.failures = [down(asked_s)]
    await world.projector().catch_up()
    assert world.sleeps[0] == slept_s


async def test_back_off_starts_over_after_a_success() -> None:
    world = World([entry(1)])
    world.failures = [down(), down(), down()]
    projector = world.projector()
    await projector.catch_up()
    world.entries.append(entry(2))
    world.failures, world.sleeps = [down()], []
    await projector.catch_up()
    assert world.sleeps[0] == 1.0


async def test_the_source_and_the_cursor_may_fail_too() -> None:
    world = World([entry(1)])
    world.source_failures, world.cursor_failures = [down(), down()], [down()]
    projector = world.projector()
    await projector.catch_up()
    assert world.saved == 1
    assert world.stored == world.all_points()
    assert projector.stats.retries == 3


async def test_a_crash_before_the_cursor_repeats_the_write() -> None:
    world = World([entry(1), entry(2)])
    world.cursor_failures = [down()]
    await world.projector().step()  # the write is done, the cursor fails, and so ends this projector's life
    assert world.saved == 0
    await world.projector().catch_up()
    assert world.events == ["write 6", "write 6", "save 2"]
    assert world.stored == world.all_points()


async def test_a_refused_point_holds_up_nothing() -> None:
    world = World([entry(index) for index in range(1, 5)])
    world.refused = {world.entries[1][1][0], world.entries[3][1][2]}
    told: list[tuple[int, Point, str]] = []
    projector = world.projector(on_rejected=lambda *what: told.append(what))
    await projector.catch_up()
    assert told == [(2, world.entries[1][1][0], "refused"), (4, world.entries[3][1][2], "refused")]
    assert world.saved == 4
    assert (projector.stats.written, projector.stats.rejected) == (10, 2)
    assert "refused" in projector.stats.last_rejection


async def test_rebuilt_it_is_the_same() -> None:
    world = World([entry(index) for index in range(1, 24)])
    projector = world.projector()
    await projector.catch_up()
    before, world.events = dict(world.stored), []
    world.failures = [down()]
    await projector.rebuild()
    assert world.events == ["save 0", "save 0", "drop"]  # the cursor first, or a crash between would lose all
    assert not world.stored
    await projector.catch_up()
    assert world.stored == before


async def test_a_notice_wakes_it_and_lag_is_told() -> None:
    world = World([entry(1)])
    projector = world.projector()
    running = asyncio.create_task(projector.run())
    await world.waiting.wait()
    world.waiting.clear()
    world.entries += [entry(2), entry(3)]
    projector.notify(3)
    assert projector.stats.lag == 2
    await world.waiting.wait()
    assert world.saved == 3
    assert projector.stats.lag == 0
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()


async def test_a_notice_during_the_work_is_not_lost() -> None:
    world = World([entry(1)])
    projector = world.projector()
    write = world.write

    async def write_and_grow(points: Sequence[Point]) -> None:
        await write(points)
        if len(world.entries) == 1:
            world.entries.append(entry(2))
            projector.notify()

    world.write = write_and_grow  # type: ignore[method-assign]
    running = asyncio.create_task(projector.run())
    await world.waiting.wait()
    assert world.saved == 2
    running.cancel()
    await asyncio.wait({running})


async def test_catching_up_lets_others_run_between_reads() -> None:
    world = World([entry(index) for index in range(1, 501)])
    turns: list[int] = []

    async def present() -> None:
        while world.saved < 500:
            turns.append(world.saved)
            await asyncio.sleep(0)

    await asyncio.gather(world.projector().catch_up(), present())
    assert set(turns) >= set(range(10, 500, 10))


# --- a store that may lose its latest points in a crash -----------------------------------------------------


async def test_the_cursor_waits_until_the_points_are_safe() -> None:
    world = World([entry(1)], lag_ms=10_000)
    projector = world.projector()
    await projector.step()
    assert (projector.stats.position, world.saved) == (1, 0)
    world.now_s = 9.9
    await projector.step()
    assert world.saved == 0
    world.entries.append(entry(2))
    world.now_s = 10.0
    await projector.step()
    assert world.saved == 1  # not 2: that was written just now
    await projector.catch_up()
    assert world.saved == 2
    assert world.now_s == 20.0


async def test_a_store_that_restarts_unseen_gets_its_points_again() -> None:
    world = World([entry(1)], lag_ms=10_000)
    projector = world.projector()
    await projector.step()
    world.flush()
    world.now_s = 10.0
    world.entries.append(entry(2))
    await projector.step()
    assert world.saved == 1
    world.crash()  # between two calls: no error ever shows
    assert len(world.stored) == 3
    await projector.catch_up()
    world.flush()
    assert world.stored == world.all_points()
    assert world.saved == 2
    assert projector.stats.rewinds == 1


async def test_a_store_that_fails_gets_what_is_not_safe_again() -> None:
    world = World([entry(1)], lag_ms=10_000)
    projector = world.projector()
    await projector.step()
    world.crash()
    world.failures = [down()]
    world.entries.append(entry(2))
    await projector.catch_up()
    world.flush()
    assert world.stored == world.all_points()
    assert world.saved == 2


def test_settings_have_bounds() -> None:
    for wrong in (
        {"entries_max": 0},
        {"points_max": 0},
        {"poll_s": 0.0},
        {"rest_s": -1.0},
        {"backoff_first_s": 0.0},
    ):
        with pytest.raises(ValueError, match="projector"):
            ProjectorSettings(**wrong)  # type: ignore[arg-type]
