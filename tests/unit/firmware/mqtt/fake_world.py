"""A clock that stands still and a stream in memory, for the MQTT client under test; for both interpreters.

``World`` holds a client and the broker's ends of the connections it opened. A test plays the broker by hand.
"""

# MicroPython runs this file too, so it keeps to what that has.
# ruff: noqa: UP031

import asyncio

from surge_device import mqtt_packets as packets
from surge_device.mqtt import MqttClient
from surge_device.mqtt_errors import MqttLinkLost
from surge_device.mqtt_settings import MqttSettings

TURNS = 60  # how often other tasks get their turn before a test looks
CONNACK_OK = b"\x20\x02\x00\x00"


class FakeClock:
    def __init__(self):
        self.now_ms = 1000
        self.naps = []  # every sleep asked for, in order
        self._sleepers = []

    def uptime_ms(self):
        return self.now_ms

    async def sleep_ms(self, duration_ms):
        self.naps.append(duration_ms)
        event = asyncio.Event()
        sleeper = (self.now_ms + duration_ms, event)
        self._sleepers.append(sleeper)
        try:
            await event.wait()
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, duration_ms):
        self.now_ms += duration_ms
        for until_ms, event in self._sleepers:
            if until_ms <= self.now_ms:
                event.set()


class FakeStream:
    """What the client writes is in ``sent``; what the broker says goes through ``hear``."""

    def __init__(self):
        self.sent = b""
        self.closed = False
        self.open_gate = asyncio.Event()  # while clear, drain waits
        self.open_gate.set()
        self._inbox = b""
        self._news = asyncio.Event()
        self._ended = False

    def hear(self, data):
        self._inbox += data
        self._news.set()

    def hang_up(self):
        self._ended = True
        self._news.set()

    async def readinto(self, buffer):
        while not self._inbox and not self._ended:
            self._news.clear()
            await self._news.wait()
        count = min(len(buffer), len(self._inbox))
        buffer[:count] = self._inbox[:count]
        self._inbox = self._inbox[count:]
        return count

    def write(self, data):
        self.sent += bytes(data)

    async def drain(self):
        await self.open_gate.wait()
        await asyncio.sleep(0)

    def close(self):
        pass

    async def wait_closed(self):
        self.closed = True


class FakeLog:
    def __init__(self):
        self.lines = []

    def info(self, event, *values):
        self.lines.append(" ".join(["info", event] + [str(value) for value in values]))

    def warning(self, event, *values):
        self.lines.append(" ".join(["warning", event] + [str(value) for value in values]))


class World:
    def __init__(self, subscriptions=(), chance=0.5, **settings):
        self.clock = FakeClock()
        self.log = FakeLog()
        self.streams = []
        self.no_route = False
        self.messages = []
        self.handler_fault = None
        self.links = []
        self.settings = MqttSettings("broker", 1883, "dev", user="dev", password="hunter2", **settings)
        self.client = MqttClient(
            self.settings,
            self._on_message,
            self.clock,
            lambda: chance,
            log=self.log,
            on_link=lambda up, fault: self.links.append((up, fault)),
            subscriptions=subscriptions,
            open_stream=self._open,
            sleep_ms=self.clock.sleep_ms,
        )

    async def _open(self, settings, context, clock, sleep_ms):
        if self.no_route:
            raise MqttLinkLost("no route")
        self.streams.append(FakeStream())
        return self.streams[-1]

    def _on_message(self, topic, payload, retain):
        self.messages.append((topic, payload, retain, self.stream.sent))
        if self.handler_fault:
            raise self.handler_fault

    @property
    def stream(self):
        return self.streams[-1]

    async def turns(self):
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def hear(self, data):
        self.stream.hear(data)
        await self.turns()

    async def pass_ms(self, duration_ms, step_ms=250):
        """Time goes on in steps that let the watcher look each time."""
        for _ in range(duration_ms // step_ms):
            self.clock.advance(step_ms)
            await self.turns()

    async def connected(self):
        """Start the client's ``connect`` and accept it; the subscriptions are not answered here."""
        task = asyncio.create_task(self.client.connect())
        await self.turns()
        await self.hear(CONNACK_OK)
        self.stream.sent = b""
        return task


def puback(number):
    buffer = bytearray(4)
    return bytes(buffer[: packets.encode_puback(buffer, number)])


def suback(number, codes):
    return bytes([0x90, 2 + len(codes), number >> 8, number & 255]) + codes


async def fault_of(call):
    """What a call raised; it's a failure of the test when it didn't."""
    try:
        value = await call
    except Exception as fault:
        return fault
    raise AssertionError("no error, but %r" % (value,))


def play(scene):
    """Run one coroutine function in an event loop of its own."""
    if not hasattr(asyncio, "Runner"):
        asyncio.new_event_loop()  # MicroPython keeps one loop, with what an earlier case left in it
    asyncio.run(scene())
