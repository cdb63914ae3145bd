"""Cases of sampling, of the alarm that tasks wait on, and of the clock's keeper."""

import asyncio

from device_world import NOON_MS, Alarm, Lines, Stop, World, clean_up, play  # noqa: F401

from surge_device.alarm import Alarm as RealAlarm
from surge_device.clock import SOURCE_NTP
from surge_device.errors import NetworkError, SensorError
from surge_device.outbox_limits import Limits
from surge_device.sampler import WAKE_MS, Sampler
from surge_device.timekeeper import NTP_EVERY_MS, NTP_RETRY_MS, Timekeeper
from surge_wire.limits import RECORDS_MAX

ROOMY = Limits(bytes_max=6 * 8400, segment_bytes=8400, entries_max=8, in_flight_max=64)


class Sensor:
    driver_name = "double"

    def __init__(self, world, records):
        self.world = world
        self.records = records
        self.takes_ms = 0
        self.read_at = []

    async def read(self):
        self.read_at.append(self.world.ticks)
        self.world.ticks += self.takes_ms
        if isinstance(self.records, Exception):
            raise self.records
        return self.records


class Lab:
    def __init__(self, folder, *records, interval_ms=10000, limits=ROOMY):
        self.world = World(folder, limits)
        self.sensors = [Sensor(self.world, each) for each in records or ([("a", "", 1)],)]
        self.alarm = Alarm(self.world)
        self.readings = 0
        self.signs = []
        world = self.world
        self.sampler = Sampler(
            self.sensors,
            world.meter,
            world.sealer,
            world.clock,
            interval_ms,
            self.on_reading,
            self.alarm,
            world.log,
        )

    def on_reading(self):
        self.readings += 1

    def run(self, duration_ms):
        self.alarm.stop_ms = self.world.ticks + duration_ms
        play(self.sampler.run(lambda: self.signs.append(self.world.ticks)))

    def names(self):
        return [[record.name for record in report.records()] for report in self.world.reports()]


def case_the_interval_counts_from_reading_to_reading(folder):
    lab = Lab(folder)
    lab.sensors[0].takes_ms = 3000
    lab.run(45000)
    assert lab.sensors[0].read_at == [0, 10000, 20000, 30000, 40000]
    gaps = [later - earlier for earlier, later in zip(lab.signs, lab.signs[1:])]  # noqa: B905
    assert max(gaps) <= WAKE_MS
    assert lab.readings == 5


def case_a_long_interval_gives_signs_of_life(folder):
    lab = Lab(folder, interval_ms=60000)
    lab.run(130000)
    assert lab.sensors[0].read_at == [0, 60000, 120000]
    gaps = [later - earlier for earlier, later in zip(lab.signs, lab.signs[1:])]  # noqa: B905
    assert max(gaps) <= WAKE_MS


def case_a_sensor_slower_than_the_interval_is_read_without_a_pause_and_others_get_their_turn(folder):
    lab = Lab(folder, interval_ms=50)
    lab.sensors[0].takes_ms = 80
    lab.run(400)
    assert lab.sensors[0].read_at == [0, 80, 160, 240, 320]
    assert all([wait <= 0 for wait in lab.alarm.waits])


def case_sample_now_and_a_new_interval_take_effect_at_once(folder):
    lab = Lab(folder)
    lab.run(2000)
    assert lab.readings == 1
    lab.sampler.sample_now()
    lab.sampler.sample_now()  # two at once are one
    lab.run(0)
    assert lab.readings == 3  # run begins with a reading of its own
    lab.sampler.set_interval(1000)
    lab.alarm.rung = False
    lab.run(4000)
    assert lab.readings == 8


def case_a_sensor_that_fails_is_absent_and_counted(folder):
    lab = Lab(folder, [("a", "", 1)], SensorError("unplugged"), [("b", "", 2)])
    lab.run(0)
    assert lab.names() == [["a", "b"]]
    assert lab.world.meter.sensor_errors == 1
    assert "unplugged" in str(lab.world.log.lines)


def case_no_sensor_answers_and_the_report_has_usage_only(folder):
    lab = Lab(folder, SensorError("unplugged"))
    lab.run(0)
    (report,) = lab.world.reports()
    assert report.pack is None
    assert report.usage.samples == 0


def case_what_senml_or_a_report_cannot_carry_is_left_out_and_counted(folder):
    many = [("n%d" % number, "", number) for number in range(RECORDS_MAX)]
    bad = [("with space", "", 1), ("n", "", None), ("n", "", "x" * 300), ("n", "", float("nan"))]
    lab = Lab(folder, bad, many, [("late", "", 1)])
    lab.run(0)
    (names,) = lab.names()
    assert names == [name for name, _, _ in many]
    assert lab.world.meter.sensor_errors == len(bad) + 1
    assert lab.world.meter.samples == RECORDS_MAX


def case_a_full_outbox_costs_the_reading_and_not_the_sampling(folder):
    lab = Lab(folder, limits=Limits(4 * 8400, 8400, 2, 1))
    lab.run(0)
    lab.world.full = True
    lab.run(30000)
    assert len(lab.world.log.said("reading-lost")) == 4
    assert lab.world.outbox.dropped == 4
    lab.world.full = False
    lab.run(0)
    assert lab.world.outbox.pending == 1


def case_other_tasks_run_between_readings_however_short_the_interval(folder):
    world = World(folder, ROOMY)
    turns = []

    async def scene():
        sampler = Sampler(
            [Sensor(world, [("a", "", 1)])],
            world.meter,
            world.sealer,
            world.clock,
            0,
            lambda: None,
            RealAlarm(),
            world.log,
        )
        sampling = asyncio.create_task(sampler.run(lambda: None))
        while len(turns) < 10:
            turns.append(world.sealer.seq)
            await asyncio.sleep(0)
        sampling.cancel()

    play(scene())
    assert turns[-1] < 30


def case_an_alarm_keeps_a_ring_and_counts_several_as_one(folder):
    async def scene():
        alarm = RealAlarm()
        alarm.ring()
        alarm.ring()
        assert await alarm.wait_ms(60000)
        assert not await alarm.wait_ms(1)
        assert not await alarm.wait_ms(0)
        waiting = asyncio.create_task(alarm.wait_ms(60000))
        for _ in range(5):
            await asyncio.sleep(0)
        alarm.ring()
        assert await waiting
        alarm.ring()
        assert await alarm.wait_ms(0)

    play(scene())


class Server:
    """An NTP server that answers with ``answer``, or doesn't."""

    def __init__(self, world):
        self.world = world
        self.asked_at = []
        self.answer = NOON_MS

    async def query(self, host, sleep_ms):
        assert host == "ntp.test"
        self.asked_at.append(self.world.ticks)
        if self.answer is None:
            raise NetworkError("no answer")
        return self.answer


def case_the_clock_is_set_by_ntp_and_a_silent_server_is_asked_again(folder):
    world = World(folder)
    server = Server(world)
    world.up = True
    until_ms = [10000]

    class Board:
        def connected(self):
            return world.up

    async def sleep_ms(duration_ms):
        if world.ticks >= until_ms[0]:
            raise Stop
        world.ticks += duration_ms

    def run(duration_ms):
        until_ms[0] = world.ticks + duration_ms
        play(
            Timekeeper("ntp.test", world.clock, Board(), world.log, sleep_ms, server.query).run(lambda: None)
        )

    server.answer = None
    run(2 * NTP_RETRY_MS + 2000)
    assert [round(asked / NTP_RETRY_MS) for asked in server.asked_at] == [0, 1, 2]
    assert world.clock.now_ms() is None
    assert len(world.log.said("ntp")) == 3
    server.answer, server.asked_at = NOON_MS, []
    run(NTP_EVERY_MS - 1000)
    assert len(server.asked_at) == 1
    assert world.clock.source == SOURCE_NTP
    world.up, server.asked_at = False, []
    run(NTP_EVERY_MS * 2)
    assert server.asked_at == []
