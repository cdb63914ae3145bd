"""The device: makes every part, connects them, and hands their tasks to the supervisor.

The one place where parts meet; ``boards/<name>/main.py`` calls ``start``. What a board can do is in
``boards``; what the parts promise is in their own modules. Order at start: settings, identity, outbox, boot
number (on flash before anything can use it), then the tasks.
"""

import asyncio
import gc
import time

from surge_device.alarm import Alarm
from surge_device.boot import begin_boot
from surge_device.clock import Clock
from surge_device.commands import Commands, interval_ms
from surge_device.courier import Courier
from surge_device.errors import DeviceError, NetworkError
from surge_device.identity import load_identity
from surge_device.leaving import Leaving
from surge_device.log import Log
from surge_device.meter import Meter
from surge_device.mqtt import MqttClient
from surge_device.mqtt_settings import MqttSettings
from surge_device.outbox import open_outbox
from surge_device.sampler import Sampler
from surge_device.sealer import Sealer
from surge_device.sensors import make_sensors
from surge_device.settings import load_settings
from surge_device.status import Status
from surge_device.storage import Storage
from surge_device.supervisor import Supervisor, Task
from surge_device.timekeeper import Timekeeper
from surge_wire import command
from surge_wire.hkdf import mqtt_password

TASK_DEADLINE_MS = 60000
NETWORK_LOOK_MS = 5000
EXIT_CODE_REFUSED = 2  # the start was refused: settings, identity or files have to be put right


class App:
    def __init__(self, board_class, data_dir, write=print):
        self.storage = Storage(data_dir)
        settings = self.settings = load_settings(self.storage)
        clock = self.clock = Clock(time.ticks_ms, time.ticks_diff)
        log = self.log = Log(settings.log_level, clock.uptime_ms, write)
        self.board = board_class(settings, data_dir)
        self.hears_stop = self.board.hear_stop()
        self.identity = load_identity(self.storage)
        self.password = mqtt_password(self.identity.secret)
        for secret in (self.password, settings.wifi_password):
            log.hide(secret)
        self.meter = Meter(self.board, clock)
        sensors = make_sensors(settings.sensors, self.meter)
        self.outbox = open_outbox(data_dir + "/outbox", self.board.sync, settings.outbox_limits)
        self.boot, previous_end = begin_boot(self.identity, self.outbox)
        self.commands = Commands(self.identity, clock, log, self._actions())
        self.sealer = Sealer(
            self.identity, self.boot, previous_end, self.outbox, self.meter, clock, self.commands, log
        )
        self.courier = Courier(
            self.identity.device, self.outbox, self.sealer, clock, self.commands, Alarm(), log
        )
        self.sampler = Sampler(
            sensors,
            self.meter,
            self.sealer,
            clock,
            settings.report_interval_ms,
            self.courier.wake,
            Alarm(),
            log,
        )
        self.client = self._make_client()
        self.courier.attach(self.client)
        self.leaving = Leaving(self.board, self.courier, self.client)
        self.status = Status(
            settings.status_interval_ms, self.sealer, self.courier, self.outbox, self.client, log
        )
        self.supervisor = Supervisor(self._tasks(), self.board, clock, self.storage, log, asyncio.sleep_ms)

    def _make_client(self):
        settings, device = self.settings, self.identity.device
        wanted = MqttSettings(
            settings.broker_host,
            settings.broker_port,
            device,
            user=device,
            password=self.password,
            keep_alive_s=settings.keepalive_s,
            will=self.courier.will(),
            tls=settings.tls,
            tls_ca_file=settings.ca_file,
        )
        courier = self.courier
        return MqttClient(
            wanted,
            courier.on_message,
            self.clock,
            self._random,
            self.log,
            courier.on_link,
            courier.subscriptions(),
        )

    def _random(self):
        return int.from_bytes(self.board.entropy(3), "big") / 0x1000000

    def _tasks(self):
        settings, board, sleep_ms = self.settings, self.board, asyncio.sleep_ms
        joining_ms = settings.wifi_timeout_s * 1000  # gives no sign of life while it lasts
        tasks = [
            Task("network", self._stay_connected, TASK_DEADLINE_MS + joining_ms),
            Task("sampler", self.sampler.run, TASK_DEADLINE_MS),
            Task("courier", self.courier.run, TASK_DEADLINE_MS),
            Task("status", self.status.run, TASK_DEADLINE_MS),
        ]
        if settings.ntp_host:
            keeper = Timekeeper(settings.ntp_host, self.clock, board, self.log, sleep_ms)
            tasks.append(Task("ntp", keeper.run, TASK_DEADLINE_MS))
        if self.hears_stop:
            tasks.append(Task("stop", self.leaving.run, TASK_DEADLINE_MS))
        if board.probe:
            tasks.append(Task("busy", lambda alive: board.probe.run(sleep_ms, alive), TASK_DEADLINE_MS))
        return tasks

    def _actions(self):
        def set_interval(arguments):
            wanted_ms = interval_ms(arguments)
            if wanted_ms is None:
                return "interval out of range"
            return self.sampler.set_interval(wanted_ms)

        def restart(_):
            asyncio.create_task(self.leaving.restart())  # noqa: RUF006 - ends with the process

        return {
            command.SET_REPORT_INTERVAL: set_interval,
            command.RESTART: restart,
            command.SAMPLE_NOW: lambda _: self.sampler.sample_now(),
        }

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
            await client  # raises what ended it, for the supervisor to write down
        finally:
            client.cancel()

    async def run(self):
        """Until the supervisor resets the board."""
        self.log.info("start", self.identity.device, "boot=%d" % self.boot, "board=" + self.board.name)
        if self.supervisor.last_crash:
            self.log.warning("last-crash", self.supervisor.last_crash)
        gc.collect()
        await self.supervisor.run()


def start(board_class, data_dir, write=print):
    """Run the device until it is reset or asked to stop; either way it says a last status.

    Returns EXIT_CODE_REFUSED, having said why in one line, where it can't start."""
    try:
        app = App(board_class, data_dir, write)
    except DeviceError as error:
        write("E start %s" % error)
        return EXIT_CODE_REFUSED
    except OSError as error:
        write(
            "E start %s: error %s; remedy: check that it is there, writable and not full" % (data_dir, error)
        )
        return EXIT_CODE_REFUSED
    try:
        asyncio.run(app.run())
    finally:
        app.status.tell_end()
