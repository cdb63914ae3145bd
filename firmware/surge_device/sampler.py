"""Reads the sensors every report interval and hands the reading to the sealer.

Between the sensors and the sealer. Doesn't send. Rules: the interval is counted from reading to reading, so
a slow sensor doesn't shift the rest; a reading that finds no room is lost and counted by the outbox, and
the sampling goes on; what SenML or one report can't carry is left out and counted, so that one bad sensor
never costs the others' records; other tasks get their turn between two readings, however short the interval.
"""

from surge_device.errors import OutboxFull
from surge_device.sensors import read_all
from surge_wire.errors import EncodeError
from surge_wire.senml import make_record

WAKE_MS = 5000  # the longest sleep between two signs of life


class Sampler:
    def __init__(self, sensors, meter, sealer, clock, interval_ms, on_reading, alarm, log):
        """``on_reading()`` is called after each reading; ``alarm`` is this task's own."""
        self.interval_ms = interval_ms
        self._sensors = sensors
        self._meter = meter
        self._sealer = sealer
        self._clock = clock
        self._on_reading = on_reading
        self._alarm = alarm
        self._log = log

    def sample_now(self):
        """Read at the next opportunity, whatever the interval says."""
        self._alarm.ring()

    def set_interval(self, interval_ms):
        """From a reading at the next opportunity on, until the device starts anew."""
        self.interval_ms = interval_ms
        self._alarm.ring()

    async def run(self, check_in):
        while True:
            started_ms = self._clock.uptime_ms()
            check_in()
            await self._sample()
            await self._rest(started_ms, check_in)

    async def _sample(self):
        pack = []
        for name, unit, value in await read_all(self._sensors, self._meter, self._log):
            try:
                pack.append(make_record(name, unit, value))
            except EncodeError as error:
                self._leave_out(1, error)
        try:
            left_out = self._sealer.add_reading(pack)
            if left_out:
                self._leave_out(left_out, "no number, or no room in a report")
        except OutboxFull as full:
            self._log.warning("reading-lost", full)
        self._on_reading()

    def _leave_out(self, count, why):
        self._meter.sensor_errors += count
        self._log.warning("records-left-out", count, why)

    async def _rest(self, started_ms, check_in):
        while True:
            check_in()
            left_ms = self.interval_ms - (self._clock.uptime_ms() - started_ms)
            if await self._alarm.wait_ms(min(left_ms, WAKE_MS)) or left_ms <= WAKE_MS:
                return
