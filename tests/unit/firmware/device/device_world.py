"""A device in pieces, for its case modules, on both interpreters: real outbox, identity, meter, clock and
sealer on a real directory; time, the link and the board are moved by hand."""

import asyncio

from surge_device.boot import begin_boot
from surge_device.clock import Clock
from surge_device.identity import load_identity
from surge_device.meter import Meter
from surge_device.mqtt_errors import MqttLinkLost
from surge_device.outbox import Outbox
from surge_device.outbox_limits import Limits
from surge_device.sealer import Sealer
from surge_device.storage import Storage
from surge_wire.cose import mac_valid
from surge_wire.hkdf import INFO_REPORT, derive_key
from surge_wire.report import decode_report, open_report
from surge_wire.senml import make_record

DEVICE = "d" + "a2b3c4d5e6f7gggg"
SECRET = bytes(range(32))
NOON_MS = 1800000000000
SMALL = Limits(bytes_max=6 * 8400, segment_bytes=8400, entries_max=8, in_flight_max=4)

if not hasattr(asyncio, "sleep_ms"):  # CPython: what MicroPython's asyncio has besides
    asyncio.sleep_ms = lambda duration_ms: asyncio.sleep(duration_ms / 1000)
    asyncio.wait_for_ms = lambda task, duration_ms: asyncio.wait_for(task, duration_ms / 1000)


class Stop(Exception):
    """Ends a task that would run for ever."""


class Lines:
    """A log that keeps what was said."""

    def __init__(self):
        self.lines = []

    def said(self, event):
        return [line for line in self.lines if line[0] == event]

    def debug(self, *values):
        self.lines.append(values)

    info = warning = error = debug


class NoBoard:
    def read_resources(self):
        return {"mem_free": 1000}


class CommandsDouble:
    def __init__(self):
        self.last = 0
        self.taken = []

    def take(self, envelope, retain):
        self.taken.append((envelope, retain))


class World:
    """One boot of a device on ``folder``; ``again()`` is the next one."""

    def __init__(self, folder, limits=SMALL):
        self.folder = folder
        self.limits = limits
        self.ticks = 0
        self.full = False  # whether the file system refuses to make anything durable
        self.clock = Clock(lambda: self.ticks, lambda end, start: end - start)
        self.log = Lines()
        self.commands = CommandsDouble()
        storage = Storage(folder)
        if not storage.exists("identity.json"):
            write(folder, "identity.json", '{"device": "%s", "secret": "%s"}' % (DEVICE, SECRET_HEX))
            write(folder, "floor.json", '{"boot": 0, "command": 0}')
        self.identity = load_identity(storage)
        self.outbox = Outbox(Storage(folder + "/outbox", self._sync), limits)
        self.outbox.load()
        _opened.append(self.outbox)
        self.boot, self.previous_end = begin_boot(self.identity, self.outbox)
        self.meter = Meter(NoBoard(), self.clock)
        self.sealer = Sealer(
            self.identity,
            self.boot,
            self.previous_end,
            self.outbox,
            self.meter,
            self.clock,
            self.commands,
            self.log,
        )

    def _sync(self, file):
        if self.full:
            raise OSError(28)
        file.flush()

    def again(self):
        self.outbox.close()
        return World(self.folder, self.limits)

    def read(self, value=1, **more):
        """Take a reading of one record."""
        return self.sealer.add_reading([make_record("value", "", value)])

    def envelopes(self):
        return [(boot, seq, bytes(envelope)) for boot, seq, envelope in self.outbox.unacked()]

    def reports(self):
        """What waits for its ack, opened and checked."""
        return [open_checked(envelope) for _, _, envelope in self.envelopes()]

    def ack_all(self):
        for boot, seq, _ in self.envelopes():
            self.outbox.ack(boot, [[seq, seq]])

    def sealed_values(self):
        """Seal and ack until nothing waits; the values in the order of their numbers."""
        values = []
        while len(self.outbox):
            self.sealer.seal_waiting()
            values += [report.records()[0].value for report in self.reports()]
            self.ack_all()
        return values


class Alarm:
    """As surge_device.alarm, in the world's time; raises Stop at ``stop_ms``."""

    def __init__(self, world):
        self._world = world
        self.rung = False
        self.stop_ms = 0
        self.waits = []

    def ring(self):
        self.rung = True

    async def wait_ms(self, duration_ms):
        await asyncio.sleep(0)
        if self.rung:
            self.rung = False
            return True
        if self._world.ticks >= self.stop_ms:
            raise Stop
        self.waits.append(duration_ms)
        self._world.ticks += max(duration_ms, 0)
        return False


class Client:
    """The MQTT client's face; ``published`` holds (topic, payload, qos, retain)."""

    def __init__(self):
        self.published = []
        self.linked = True
        self.lost_after = None  # how many more publishes succeed
        self.up = self

    def is_set(self):
        return self.linked

    async def publish(self, topic, payload, qos=0, retain=False):
        await asyncio.sleep(0)
        if self.lost_after is not None:
            if self.lost_after == 0:
                raise MqttLinkLost("the cable is cut")
            self.lost_after -= 1
        self.published.append((topic, bytes(payload), qos, retain))

    def take(self):
        published, self.published = self.published, []
        return published


SECRET_HEX = "".join(["%02x" % byte for byte in SECRET])
_opened = []


def clean_up():
    """The runner calls it after each case."""
    while _opened:
        _opened.pop().close()


def open_checked(envelope):
    device, opened = open_report(envelope)
    assert device == DEVICE
    assert mac_valid(opened, derive_key(SECRET, INFO_REPORT))
    return decode_report(opened.payload)


def write(folder, name, text):
    with open(folder + "/" + name, "w") as file:
        file.write(text)


def play(scene):
    """Run a coroutine to its end, or to Stop; in an event loop of its own."""
    if not hasattr(asyncio, "Runner"):
        asyncio.new_event_loop()  # MicroPython keeps one loop, with what an earlier case left in it
    try:
        asyncio.run(scene)
    except Stop:
        pass
