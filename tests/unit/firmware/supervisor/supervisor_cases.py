"""Cases of the supervisor and the log, in time that passes only when somebody sleeps."""

import asyncio

from expect import raises

from surge_device.log import DEBUG, INFO, LINE_MAX, WARNING, Log
from surge_device.storage import Storage
from surge_device.supervisor import (
    CRASH_FILE,
    FORGET_MS,
    LOOK_MS,
    PAUSE_MAX_MS,
    PAUSE_MIN_MS,
    REASON_MAX,
    RESTARTS_MAX,
    Supervisor,
    Task,
)


class World:
    """A board, a clock and sleep: time jumps to the next waking when all tasks sleep."""

    def __init__(self, folder):
        self.now = 0
        self.fed = []
        self.resets = 0
        self.sleepers = []
        self.storage = Storage(folder)
        self.lines = []
        self.log = Log(DEBUG, self.uptime_ms, self.lines.append)
        self.watchdog = False

    def uptime_ms(self):
        return self.now

    def start_watchdog(self):
        self.watchdog = True

    def feed_watchdog(self):
        assert self.watchdog
        self.fed = self.fed[-50:] + [self.now]

    def reset(self):
        self.resets += 1

    async def sleep_ms(self, duration):
        until = self.now + duration
        self.sleepers.append(until)
        while self.now < until:
            await asyncio.sleep(0)
            if min(self.sleepers) > self.now:
                self.idle_rounds += 1
                if self.idle_rounds > 20:  # everybody sleeps
                    self.now = min(self.sleepers)
                    self.idle_rounds = 0
        self.sleepers.remove(until)

    idle_rounds = 0

    def supervise(self, *tasks):
        supervisor = Supervisor(list(tasks), self, self, self.storage, self.log, self.sleep_ms)
        asyncio.run(supervisor.run())
        return supervisor


def case_a_healthy_device_feeds_the_watchdog_and_a_silent_task_ends_that(folder):
    world = World(folder)

    async def steady(check_in):
        while True:
            check_in()
            await world.sleep_ms(500)

    async def falls_silent(check_in):
        for _ in range(10):
            check_in()
            await world.sleep_ms(1000)
        await world.sleep_ms(1 << 30)

    world.supervise(Task("steady", steady, 2000), Task("silent", falls_silent, 5000))
    assert world.resets == 1
    assert 13000 <= world.fed[-1] <= 9000 + 5000 + LOOK_MS
    gaps = [later - earlier for earlier, later in zip(world.fed, world.fed[1:])]  # noqa: B905
    assert max(gaps) <= LOOK_MS
    assert "silent gave no sign of life" in world.lines[-1]


def case_a_crashed_task_starts_again_after_growing_pauses_then_the_board_is_reset(folder):
    world = World(folder)
    starts = []

    async def broken(check_in):
        starts.append(world.now)
        raise ValueError("cable cut")

    supervisor = world.supervise(Task("broken", broken, 100))
    assert len(starts) == RESTARTS_MAX + 1
    pauses = [later - earlier for earlier, later in zip(starts, starts[1:])]  # noqa: B905
    assert pauses == [min(PAUSE_MIN_MS << count, PAUSE_MAX_MS) for count in range(RESTARTS_MAX)]
    assert world.resets == 1
    assert supervisor.restarts == RESTARTS_MAX + 1
    assert "cable cut" in supervisor.last_crash


def case_a_task_that_ends_is_a_crash_too_and_old_crashes_are_forgotten(folder):
    world = World(folder)
    starts = []

    async def ends(check_in):
        starts.append(world.now)
        if len(starts) < 2 * RESTARTS_MAX:
            for _ in range(FORGET_MS // 100000 + 1):
                check_in()
                await world.sleep_ms(100000)

    world.supervise(Task("ends", ends, 200000))
    assert len(starts) == 2 * RESTARTS_MAX - 1 + RESTARTS_MAX
    assert world.resets == 1


def case_the_next_start_knows_why_once_in_bounded_length(folder):
    world = World(folder)

    async def broken(check_in):
        raise ValueError("x" * 1000)

    world.supervise(Task("broken", broken, 100))
    assert CRASH_FILE in world.storage.names()
    for known in (True, False):
        supervisor = Supervisor([], world, world, world.storage, world.log, world.sleep_ms)
        assert (supervisor.last_crash is not None) is known
        if known:
            assert supervisor.last_crash.startswith("broken failed 6 times; last: broken: ValueError: xxx")
            assert len(supervisor.last_crash) <= REASON_MAX


def case_other_tasks_are_cancelled_before_the_reset(folder):
    world = World(folder)
    cancelled = []

    async def waits(check_in):
        try:
            while True:
                check_in()
                await world.sleep_ms(100)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def broken(check_in):
        raise ValueError("no")

    async def both():
        supervisor = Supervisor(
            [Task("waits", waits, 1000), Task("broken", broken, 1000)],
            world,
            world,
            world.storage,
            world.log,
            world.sleep_ms,
        )
        await supervisor.run()
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(both())
    assert cancelled == [1]


def case_lines_are_gated_short_and_kept_in_a_ring(folder):
    world = World(folder)
    lines = []
    log = Log(INFO, world.uptime_ms, lines.append, ring_len=3)
    log.debug("quiet", 1)
    assert lines == []
    world.now = 61005
    log.info("link-up", "gw", 7)
    assert lines == ["I 61.005 link-up gw 7"]
    for count in range(4):
        log.warning("w", count)
    assert log.last() == ["W 61.005 w 1", "W 61.005 w 2", "W 61.005 w 3"]
    log.error("long", "y" * 500)
    assert len(lines[-1]) == LINE_MAX
    assert lines[-1].endswith("...")
    log.level = WARNING
    log.info("gone")
    assert "gone" not in lines[-1]


def case_a_hidden_secret_is_in_no_line_and_one_event_is_one_line(folder):
    lines = []
    log = Log(INFO, World(folder).uptime_ms, lines.append)
    log.hide("hunter2-secret")
    log.hide(None)
    log.error("refused", "user:hunter2-secret@host", ValueError("hunter2-secret\nE 0.000 forged"))
    assert "hunter2" not in lines[0]
    assert "***" in lines[0]
    assert "\n" not in lines[0]
    assert "hunter2" not in log.last()[0]


def case_a_full_file_system_does_not_stop_the_reset(folder):
    world = World(folder)

    class Full:
        def read(self, name, length_max):
            return None

        def write_durably(self, name, data):
            raise OSError(28)

    world.storage = Full()

    async def broken(check_in):
        raise MemoryError("no heap")

    world.supervise(Task("broken", broken, 100))
    assert world.resets == 1
    assert "crash-not-kept 28" in world.lines[-1]
    assert raises(OSError, Full().write_durably, "", b"").args == (28,)
