"""Reads the sensors every report interval and hands the reading to the sealer.

Between the sensors and the sealer. Doesn't send. Rules: the interval is counted from reading to reading, so
a slow sensor doesn't shift the rest; a reading that finds no room is lost and counted by the outbox, and
the sampling goes on; what SenML can't carry is left out and counted, so that one bad sensor never costs the
others' records.
"""

import asyncio

from surge_device.errors import OutboxFull
from surge_device.sensors import read_all
from surge_wire.errors import EncodeError
from surge_wire.limits import RECORDS_MAX
from surge_wire.senml import make_record

WAKE_MS = 5000  # the longest sleep between two signs of life


class Sampler:
    def __init__(self, sensors, meter, sealer, clock, interval_ms, on_reading, log):
        """``on_reading()`` is called after each reading that was kept."""
        self.interval_ms = interval_ms
        self._sensors = sensors
        self._meter = meter
        self._sealer = sealer
        self._clock = clock
        self._on_reading = on_reading
        self._log = log
        self._now = asyncio.Event()

    def sample_now(self):
        """Read at the next opportunity, whatever the interval says."""
        self._now.set()

    def set_interval(self, interval_ms):
        self.interval_ms = interval_ms
        self._now.set()

    async def run(self, check_in):
        while True:
            started_ms = self._clock.uptime_ms()
            await self._sample()
            await self._rest(started_ms, check_in)

    async def _sample(self):
        pack = []
        for name, unit, value in await read_all(self._sensors, self._meter, self._log):
            try:
                pack.append(make_record(name, unit, value))
            except EncodeError as error:
                self._meter.sensor_errors += 1
                self._log.warning("record-refused", error)
        if len(pack) > RECORDS_MAX:
            self._meter.sensor_errors += len(pack) - RECORDS_MAX
            del pack[RECORDS_MAX:]
        try:
            self._sealer.add_reading(pack)
        except OutboxFull as full:
            self._log.warning("reading-lost", full)
        self._on_reading()

    async def _rest(self, started_ms, check_in):
        while not self._now.is_set():
            check_in()
            left_ms = self.interval_ms - (self._clock.uptime_ms() - started_ms)
            if left_ms <= 0:
                return
            try:
                await asyncio.wait_for_ms(self._now.wait(), min(left_ms, WAKE_MS))
            except asyncio.TimeoutError:
                pass
        self._now.clear()
        check_in()
