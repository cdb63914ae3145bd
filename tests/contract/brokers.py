"""Real brokers for tests and benchmarks: nats-server as Surge embeds it, Mosquitto with Surge's files.

Each is private to the test that makes it: its own folder, a free port on 127.0.0.1, gone afterwards. Both
have the same face, so that one suite runs on either.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from surge_gateway.broker.embedded import EmbeddedBroker
from surge_gateway.broker.mosquitto_files import write_mosquitto_files
from surge_gateway.broker.settings import BrokerSettings
from surge_host.mqtt_credentials import (
    DeviceCredential,
    make_device_credential,
    make_gateway_credential,
)

HOST = "127.0.0.1"
KINDS = ("nats", "mosquitto")
PAYLOAD_BYTES_MAX = 16 * 1024

GATEWAY_ID = "gaaaaaaaaaaaaaaaa"
GATEWAY_PASSWORD = "G" * 43

_START_TIMEOUT_S = 30
_CONNECT_RETRY_S = 0.02


def password_of(device_id: str) -> str:
    """Any fixed password of the right length will do: the broker never derives one."""
    return (device_id * 3)[:43]


def credential_of(device_id: str) -> DeviceCredential:
    return make_device_credential(device_id, password_of(device_id))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class TestBroker(ABC):
    """A running broker that knows the gateway and the devices it was told of."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.gateway = make_gateway_credential(GATEWAY_ID, GATEWAY_PASSWORD)
        self.devices: tuple[DeviceCredential, ...] = ()

    @abstractmethod
    async def start(self, devices: Sequence[DeviceCredential]) -> None: ...

    @abstractmethod
    async def reload(self, devices: Sequence[DeviceCredential]) -> None: ...

    @abstractmethod
    async def kill(self) -> None:
        """Ends it without a chance to say goodbye; returns when it is down."""

    @abstractmethod
    async def come_back(self) -> None:
        """After `kill`: returns when it accepts again, on the same port."""

    @abstractmethod
    async def stop(self) -> None: ...


class NatsBroker(TestBroker):
    """The embedded broker, supervised as in the gateway."""

    async def start(self, devices: Sequence[DeviceCredential]) -> None:
        settings = BrokerSettings(
            port=self.port,
            folder=self.folder / "nats",
            payload_bytes_max=PAYLOAD_BYTES_MAX,
            restart_delay_ms=10,
        )
        self.embedded = EmbeddedBroker(settings, self.gateway, devices)
        await self.embedded.start()
        self._run = asyncio.create_task(self.embedded.run(), name="broker under test")

    async def reload(self, devices: Sequence[DeviceCredential]) -> None:
        await self.embedded.reload(devices)

    async def kill(self) -> None:
        pid = self.embedded.pid
        assert pid is not None
        self.embedded.ready.clear()
        os.kill(pid, signal.SIGKILL)

    async def come_back(self) -> None:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await self.embedded.ready.wait()

    async def stop(self) -> None:
        self._run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._run
        await self.embedded.stop()


class MosquittoBroker(TestBroker):
    """Mosquitto, with the example configuration as Surge writes it."""

    _process: asyncio.subprocess.Process | None = None
    _drain: asyncio.Task[None] | None = None

    async def start(self, devices: Sequence[DeviceCredential]) -> None:
        self.devices = tuple(devices)
        self._write()
        await self._start()

    async def reload(self, devices: Sequence[DeviceCredential]) -> None:
        self.devices = tuple(devices)
        self._write()
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)
        # Mosquitto has one thread: whatever reaches it after this line meets the new files.
        await self._read_until(b"Reloading config.")

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def come_back(self) -> None:
        await self._start()

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    def _write(self) -> None:
        files = write_mosquitto_files(
            self.folder / "mosquitto",
            self.devices,
            self.gateway,
            host=HOST,
            port=self.port,
            payload_bytes_max=PAYLOAD_BYTES_MAX,
        )
        self._conf = self.folder / "test.conf"
        # Started by root, it would become another user, who can't read the files.
        user = "user root\n" if os.geteuid() == 0 else ""
        log = "log_dest stderr\nlog_type all\n"
        self._conf.write_text(files.example_conf.read_text() + user + log)

    async def _start(self) -> None:
        program = shutil.which("mosquitto")
        assert program, "mosquitto isn't on PATH: `make test` supplies it"
        self._process = await asyncio.create_subprocess_exec(
            program, "-c", str(self._conf), stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        await self._read_until(b" running")

    async def _read_until(self, text: bytes) -> None:
        if self._drain is not None:
            self._drain.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._drain
        assert self._process is not None
        assert self._process.stderr is not None
        said = b""
        async with asyncio.timeout(_START_TIMEOUT_S):
            while text not in said:
                line = await self._process.stderr.readline()
                assert line, f"mosquitto ended: {said!r}"
                said += line
        self._drain = asyncio.create_task(self._read_on(), name="mosquitto log")

    async def _read_on(self) -> None:
        """So that a full pipe never stops the broker."""
        process = self._process
        assert process is not None
        assert process.stderr is not None
        while await process.stderr.readline():
            pass

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        if self._drain is not None:
            await self._drain
        await process.wait()


def make_broker(kind: str, folder: Path) -> TestBroker:
    return {"nats": NatsBroker, "mosquitto": MosquittoBroker}[kind](folder)


@contextlib.asynccontextmanager
async def running(kind: str, folder: Path, devices: Sequence[DeviceCredential]) -> AsyncIterator[TestBroker]:
    broker = make_broker(kind, folder)
    await broker.start(devices)
    try:
        yield broker
    finally:
        await broker.stop()
