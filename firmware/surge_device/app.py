"""The device: makes every part, connects them, and hands their tasks to the supervisor.

The one place where parts meet; ``boards/<name>/main.py`` calls ``start``. What a board can do is in
``boards``; what the parts promise is in their own modules. Order at start: settings, identity, boot number
(on flash before anything can use it), outbox, then the tasks.
"""

import asyncio
import gc
import time

from surge_device import sntp
from surge_device.clock import SOURCE_NTP, Clock
from surge_device.commands import Commands, interval_ms
from surge_device.courier import WAKE_MS, Courier
from surge_device.errors import NetworkError
from surge_device.identity import load_identity
from surge_device.log import Log
from surge_device.meter import Meter
from surge_device.mqtt import MqttClient
from surge_device.mqtt_settings import MqttSettings
from surge_device.outbox import open_outbox
from surge_device.sampler import Sampler
from surge_device.sealer import Sealer
from surge_device.sensors import make_sensors
from surge_device.settings import load_settings
from surge_device.storage import Storage
from surge_device.supervisor import Supervisor, Task
from surge_wire import command
from surge_wire.hkdf import mqtt_password

TASK_DEADLINE_MS = 60000
NTP_EVERY_MS = 6 * 3600 * 1000
NTP_RETRY_MS = 60000
RESTART_DELAY_MS = 500  # lets the PUBACK of the command go out
NETWORK_LOOK_MS = 5000


def previous_end(outbox, boot):
    """The seq that ``boot`` - 1 would have used next, from the outbox's own records; None if they can't
    tell."""
    last = outbox.last_sealed
    if last is None or outbox.damaged:
        return None
    return last[1] + 1 if last[0] == boot - 1 else 0


class App:
    def __init__(self, board_class, data_dir, write=print):
        self.storage = Storage(data_dir)
        self.settings = load_settings(self.storage)
        self.clock = Clock(time.ticks_ms, time.ticks_diff)
        self.log = Log(self.settings.log_level, self.clock.uptime_ms, write)
        self.board = board_class(self.settings, data_dir)
        self.identity = load_identity(self.storage)
        password = mqtt_password(self.identity.secret)
        for secret in (password, self.settings.wifi_password):
            self.log.hide(secret)
        self.outbox = open_outbox(data_dir + "/outbox", self.board.sync, self.settings.outbox_limits)
        last = self.outbox.last_sealed
        self.boot = self.identity.next_boot(last[0] if last else 0)
        self.meter = Meter(self.board, self.clock)
        self.commands = Commands(self.identity, self.clock, self.log, self._actions())
        self.sealer = Sealer(
            self.identity,
            self.boot,
            previous_end(self.outbox, self.boot),
            self.outbox,
            self.meter,
            self.clock,
            self.commands,
            self.log,
        )
        self.courier = Courier(
            self.identity.device, self.outbox, self.sealer, self.clock, self.commands, self.log
        )
        self.sampler = Sampler(
            make_sensors(self.settings.sensors, self.meter),
            self.meter,
            self.sealer,
            self.clock,
            self.settings.report_interval_ms,
            self.courier.wake,
            self.log,
        )
        self.client = MqttClient(
            self._mqtt_settings(password),
            self.courier.on_message,
            self.clock,
            self._random,
            self.log,
            self.courier.on_link,
            self.courier.subscriptions(),
        )
        self.courier.attach(self.client)
        self.supervisor = Supervisor(
            self._tasks(), self.board, self.clock, self.storage, self.log, asyncio.sleep_ms
        )

    def _mqtt_settings(self, password):
        settings = self.settings
        return MqttSettings(
            settings.broker_host,
            settings.broker_port,
            self.identity.device,
            user=self.identity.device,
            password=password,
            keep_alive_s=settings.keepalive_s,
            will=self.courier.will(),
            tls=settings.tls,
            tls_ca_file=settings.ca_file,
        )

    def _random(self):
        return int.from_bytes(self.board.entropy(3), "big") / 0x1000000

    def _tasks(self):
        tasks = [
            Task("network", self._stay_connected, TASK_DEADLINE_MS),
            Task("sampler", self.sampler.run, TASK_DEADLINE_MS),
            Task("courier", self.courier.run, TASK_DEADLINE_MS),
            Task("status", self._tell_status, TASK_DEADLINE_MS),
        ]
        if self.settings.ntp_host:
            tasks.append(Task("ntp", self._keep_time, TASK_DEADLINE_MS))
        if self.board.probe:
            tasks.append(
                Task("busy", lambda alive: self.board.probe.run(asyncio.sleep_ms, alive), TASK_DEADLINE_MS)
            )
        return tasks

    def _actions(self):
        def set_interval(arguments):
            wanted_ms = interval_ms(arguments)
            if wanted_ms is None:
                self.log.warning("command.refused", "interval out of range")
            else:
                self.sampler.set_interval(wanted_ms)

        return {
            command.SET_REPORT_INTERVAL: set_interval,
            command.RESTART: lambda arguments: asyncio.create_task(self._restart()),
            command.SAMPLE_NOW: lambda arguments: self.sampler.sample_now(),
        }

    async def _restart(self):
        await asyncio.sleep_ms(RESTART_DELAY_MS)
        await self.client.close()
        self.board.reset()

    async def _stay_connected(self, check_in):
        """The network first, then the broker; both for as long as the device runs."""
        client = asyncio.create_task(self.client.run())
        try:
            while not client.done():
                check_in()
                if not self.board.connected():
                    try:
                        await self.board.connect()
                    except NetworkError as error:
                        self.log.warning("network", error)
                await asyncio.sleep_ms(NETWORK_LOOK_MS)
        finally:
            client.cancel()

    async def _keep_time(self, check_in):
        next_ms = 0
        while True:
            check_in()
            if self.clock.uptime_ms() >= next_ms and self.board.connected():
                try:
                    unix_ms = await sntp.query(self.settings.ntp_host, asyncio.sleep_ms)
                    self.clock.set_unix_ms(unix_ms, SOURCE_NTP)
                    next_ms = self.clock.uptime_ms() + NTP_EVERY_MS
                except NetworkError as error:
                    self.log.warning("ntp", error)
                    next_ms = self.clock.uptime_ms() + NTP_RETRY_MS
            await asyncio.sleep_ms(WAKE_MS)

    async def _tell_status(self, check_in):
        while True:
            for _ in range(self.settings.status_interval_ms // WAKE_MS):
                check_in()
                await asyncio.sleep_ms(WAKE_MS)
            self.tell_status()

    def tell_status(self):
        """One line that says how the device is."""
        gc.collect()
        self.log.info(
            "status",
            "boot=%d" % self.boot,
            "made=%d" % self.sealer.seq,
            "acked=%d" % self.courier.acked,
            "waiting=%d" % len(self.outbox),
            "dropped=%d" % self.outbox.dropped,
            "linked=%d" % self.client.up.is_set(),
            "heap_free=%d" % gc.mem_free(),
        )

    def tell_end(self):
        """The last status, and the seqs of this boot that no ack covers: they go out after the next start."""
        self.tell_status()
        unacked = [str(seq) for boot, seq, _ in self.outbox.unacked() if boot == self.boot]
        self.log.info("end", "unacked=" + ",".join(unacked))

    async def run(self):
        """Until the supervisor resets the board."""
        self.log.info("start", self.identity.device, "boot=%d" % self.boot, "board=" + self.board.name)
        if self.supervisor.last_crash:
            self.log.warning("last-crash", self.supervisor.last_crash)
        gc.collect()
        await self.supervisor.run()


def start(board_class, data_dir):
    """Run the device for ever; an interrupt from the keyboard ends it with a last status."""
    app = App(board_class, data_dir)
    try:
        asyncio.run(app.run())
    finally:
        app.tell_end()
