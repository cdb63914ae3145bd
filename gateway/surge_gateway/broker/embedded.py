"""Runs nats-server as the gateway's own MQTT broker.

Place in the flow: started by `app` before the gateway's client, stopped after it. Does not listen to MQTT
messages and holds no password. Losing the broker loses nothing: devices keep what isn't acknowledged.

Rules kept: `start` returns when the MQTT port accepts, or raises what a person needs to know, to which a
server that somebody kills meanwhile doesn't belong; a server that dies later is started again for ever, with
jittered, doubling, capped waits; nothing in the folder is touched before it is claimed; `reload` returns
when the server has said that the new credentials hold (devices that stay keep their connections, removed ones
are disconnected); changes of the configuration happen one at a time; the configuration file is private and
always whole.
"""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import structlog

from surge_gateway.broker import nats_log
from surge_gateway.broker.claims import FOLDER_IN_USE, FolderClaim, check_port_free, port_in_use
from surge_gateway.broker.errors import BrokerDiskFull, BrokerError
from surge_gateway.broker.nats_config import render_nats_config
from surge_gateway.broker.nats_log import LineLimit, LogLine
from surge_gateway.broker.private_file import (
    make_private_folder,
    sweep_private_file,
    write_private_file,
)
from surge_gateway.broker.server_process import ServerExited, ServerProcess, find_server
from surge_gateway.broker.settings import BrokerSettings
from surge_host.mqtt_credentials import DeviceCredential, GatewayCredential

CONFIG_FILE = "nats-server.conf"
_DOUBLINGS_MAX = 20  # far beyond any cap
START_KILLS_MAX = 5  # of a server that is killed while the gateway starts; then that is an error
PREDECESSOR_GRACE_MS = 2_000  # a killed gateway's server is killed too, and gone when the kernel is done
PREDECESSOR_POLL_S = 0.05


class EmbeddedBroker:
    """One nats-server under supervision: `async with` starts it, or raises BrokerError, and stops it.

    In between, `run` is to be a task, and `reload` takes other devices.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        gateway: GatewayCredential,
        devices: Sequence[DeviceCredential],
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._devices = tuple(devices)
        self._jitter = jitter
        self._server: ServerProcess | None = None
        self._changing = asyncio.Lock()
        self._limit = LineLimit(settings.log_lines_per_second_max)
        self._log = structlog.get_logger("surge_gateway.broker")
        self.ready = asyncio.Event()  # set while the MQTT port accepts
        self._folder_claim = FolderClaim()
        self.restarts = 0  # how often the server died and was started again

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process number, or None while there is none."""
        return None if self._server is None else self._server.pid

    @property
    def config_path(self) -> Path:
        return self._settings.folder / CONFIG_FILE

    async def start(self) -> None:
        """Writes the configuration and starts the server; returns when it is ready. Raises BrokerError.

        A server that is killed before it is ready is started again, START_KILLS_MAX times."""
        async with self._changing:
            for kills in range(START_KILLS_MAX + 1):
                try:
                    await self._start_server()
                    return
                except BrokerError as error:
                    if kills == START_KILLS_MAX or not _was_killed(error):
                        raise
                    self._log.error("broker_died", what=error.what)
                await asyncio.sleep(self._restart_delay_s(kills))

    async def start_or_wait(self) -> None:
        """As `start`, but for a full disk, which is said and left to `run`: a gateway without devices still
        sends what it has, and that may make room.
        """
        try:
            await self.start()
        except BrokerDiskFull as error:
            self._log.error(
                "broker_not_started",
                what=error.what,
                where=error.where,
                remedy=error.remedy,
                consequence="no device can connect until it starts; it is tried again",
            )

    async def run(self) -> None:
        """Keeps the server running until cancelled. Stopping it is left to `stop`, in its turn."""
        waits = 0
        while True:
            began_s = time.monotonic()
            if self._server is not None:
                status = await self._server.wait()
                self.ready.clear()
                self._log.error("broker_died", status=status, last_line=self._last_line())
            if (time.monotonic() - began_s) * 1000 > self._settings.restart_delay_ms_max:
                waits = 0  # it ran well for a while: this is a new misfortune
            await asyncio.sleep(self._restart_delay_s(waits))
            waits += 1
            await self._restart()

    async def reload(self, devices: Sequence[DeviceCredential]) -> None:
        """From now on exactly these devices may connect. Returns when that holds; BrokerError if it doesn't.

        While the server is down, the list is kept for its next start. So it is after an error in reloading,
        but not after one about the list itself, which then changes nothing.
        """
        async with self._changing:
            new = tuple(devices)
            text = render_nats_config(self._settings, self._gateway, new)  # refuses before anything changes
            self._devices = new
            if self._server is None or not self.ready.is_set():
                return  # the next start writes and reads it
            began_s = time.monotonic()
            write_private_file(self.config_path, text, "broker.folder")
            await self._confirm_reload(self._server)
            self._log.info(
                "broker_reloaded", devices=len(new), duration_ms=round((time.monotonic() - began_s) * 1000)
            )

    async def stop(self) -> None:
        """Stops the server if it runs; returns when the process is gone."""
        self.ready.clear()
        if self._server is not None:
            server, self._server = self._server, None
            await asyncio.shield(server.stop(self._settings.stop_timeout_ms))
        self._folder_claim.release()

    def _write_config(self) -> None:
        text = render_nats_config(self._settings, self._gateway, self._devices)
        sweep_private_file(self.config_path, "broker.folder")
        write_private_file(self.config_path, text, "broker.folder")

    async def _start_server(self) -> None:
        program = find_server(self._settings.program)
        make_private_folder(self._settings.folder, "broker.folder")
        await self._wait_for_predecessor(
            lambda: self._folder_claim.take(self._settings.folder),
            lambda error: error.what == FOLDER_IN_USE,
        )
        await self._wait_for_predecessor(
            lambda: check_port_free(self._settings.host, self._settings.port), lambda _error: True
        )
        self._write_config()
        held = self._folder_claim.descriptor
        server = await ServerProcess.start(
            program,
            ["-c", str(self.config_path.absolute())],
            self._on_line,
            () if held is None else (held,),
        )
        self._server = server
        try:
            async with asyncio.timeout(self._settings.start_timeout_ms / 1000):
                # Both lines: "ready" alone would also be said by a server without an MQTT port.
                await asyncio.gather(server.expect(nats_log.MQTT_LISTENING), server.expect(nats_log.READY))
        except (ServerExited, TimeoutError) as error:
            await self.stop()
            raise self._start_error(server, error) from error
        except BaseException:
            await self.stop()
            raise
        self.ready.set()
        self._log.info("broker_ready", host=self._settings.host, port=self._settings.port, pid=server.pid)

    async def _wait_for_predecessor(
        self, take: Callable[[], None], may_pass: Callable[[BrokerError], bool]
    ) -> None:
        """Until `take` succeeds; BrokerError if it doesn't in PREDECESSOR_GRACE_MS.

        The server of a gateway that was killed a moment ago may still be ending.
        """
        began_s = time.monotonic()
        while True:
            try:
                take()
                return
            except BrokerError as error:
                if not may_pass(error) or (time.monotonic() - began_s) * 1000 >= PREDECESSOR_GRACE_MS:
                    raise
            await asyncio.sleep(PREDECESSOR_POLL_S)

    async def _restart(self) -> None:
        async with self._changing:
            try:
                await self._start_server()
            except BrokerError as error:
                self._log.error(
                    "broker_restart_failed", what=error.what, where=error.where, remedy=error.remedy
                )
            else:
                self.restarts += 1

    async def _confirm_reload(self, server: ServerProcess) -> None:
        answer = server.expect(nats_log.RELOADED, nats_log.RELOAD_FAILED)
        server.send(signal.SIGHUP)
        try:
            text = await asyncio.wait_for(answer, self._settings.reload_timeout_ms / 1000)
        except ServerExited as error:
            raise BrokerError(
                "the broker died while it reloaded", str(self.config_path), "see its log; it is started again"
            ) from error
        except TimeoutError as error:
            raise BrokerError(
                f"the broker hasn't reloaded within {self._settings.reload_timeout_ms} ms",
                str(self.config_path),
                "raise broker.reload_timeout_ms, or give this gateway fewer devices",
            ) from error
        if nats_log.RELOAD_FAILED in text:
            raise BrokerError(
                f"the broker refused to reload: {text}", str(self.config_path), "report this: it is a bug"
            )

    def _start_error(self, server: ServerProcess, error: Exception) -> BrokerError:
        said = "\n    ".join(server.last_lines) or "(nothing)"
        if any(nats_log.ADDRESS_IN_USE in line for line in server.last_lines):
            return port_in_use(self._settings.host, self._settings.port)  # taken since we looked
        if any(nats_log.NO_ROOM in line for line in server.last_lines):
            return BrokerDiskFull(
                "the broker can't start on a full disk",
                f"broker.folder = {self._settings.folder}",
                "free disk space there; it is tried again",
            )
        if isinstance(error, TimeoutError):
            what = f"the broker wasn't ready within {self._settings.start_timeout_ms} ms"
            remedy = f"raise broker.start_timeout_ms if the machine is slow; its log ended:\n    {said}"
        else:
            what = f"the broker ended at once, status {error.args[0]}"
            remedy = f"put right what its log says:\n    {said}"
        return BrokerError(what, str(self.config_path), remedy)

    def _restart_delay_s(self, waits: int) -> float:
        doubled_ms = self._settings.restart_delay_ms << min(waits, _DOUBLINGS_MAX)
        delay_ms = min(doubled_ms, self._settings.restart_delay_ms_max)
        return delay_ms * (0.5 + self._jitter() / 2) / 1000

    def _last_line(self) -> str:
        lines = self._server.last_lines if self._server is not None else ()
        return lines[-1] if lines else ""

    def _on_line(self, line: LogLine) -> None:
        if line.level == "debug":  # a few at start, stop and reload: no client causes them
            self._log.debug("broker_log", text=line.text)
            return
        admitted, dropped = self._limit.admit(time.monotonic())
        if dropped:
            self._log.warning("broker_log_lines_dropped", count=dropped)
        if admitted:
            self._log.log(_LEVEL_NUMBERS[line.level], "broker_log", text=line.text)


def _was_killed(error: BrokerError) -> bool:
    """Whether the server ended by a signal, which is nobody's mistake in the settings."""
    cause = error.__cause__
    return isinstance(cause, ServerExited) and cause.args[0] is not None and cause.args[0] < 0


_LEVEL_NUMBERS = {"warning": 30, "error": 40, "critical": 50}
