"""Builds the demo's network step by step, as a person would with the same commands, and takes it down in
the order of the flow.

Place in the flow: under ``demo.command``. Every part is a process of its own: ``surge backend``, ``surge
gateway`` (with its own nats-server) and MicroPython with the compiled firmware. Does not display (``view``)
or judge (``outcome``).
"""

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from surge_cli.demo.device_status import DeviceStatus
from surge_cli.demo.owner import OwnerClient
from surge_cli.demo.processes import Child
from surge_cli.device import RESTART_EXIT_CODE
from surge_cli.firmware_build import build_firmware
from surge_cli.micropython import Interpreter, find_micropython
from surge_cli.provisioning import Enrolment, enrol_device, write_private
from surge_host.errors import UserError

READY_TIMEOUT_S = 60
POLL_S = 0.1
SETTLE_TIMEOUT_S = 30
DEVICE_NAMES = ("attic", "balcony", "cellar", "dining room", "entrance", "freezer", "garage", "hall")
HEAP = "256k"  # a fair double of the 128 KiB that a 32-bit board has: pointers are twice as long here


@dataclass(frozen=True)
class Options:
    """What the person asked for."""

    devices: int
    interval_s: float
    folder: Path


@dataclass
class DemoDevice:
    """One device: where it lives and how it is."""

    name: str
    device_id: str
    folder: Path
    child: Child
    status: DeviceStatus = field(default_factory=DeviceStatus)
    keeper: "asyncio.Task[None] | None" = None


class Network:
    """The running demo. ``tell`` gets one line for each step."""

    def __init__(self, options: Options, tell: Callable[[str], None]) -> None:
        self.options = options
        self.devices: list[DemoDevice] = []
        self.gateway_id = ""
        self.owner_id = ""
        self.backend_url = ""
        self.backend_config = options.folder / "backend.toml"
        self.interpreter: Interpreter | None = None
        self._tell = tell
        self._public: OwnerClient | None = None
        self._owner: OwnerClient | None = None
        self._backend = Child("the backend", options.folder / "backend.log", lambda _line: None)
        self._gateway = Child("the gateway", options.folder / "gateway.log", lambda _line: None)
        self._stopping = False

    # --- up --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring everything up; returns when every device has a report acknowledged."""
        self.interpreter = await asyncio.to_thread(find_micropython, tell=self._tell)
        self._tell(f"MicroPython {self.interpreter.version} ({self.interpreter.source})")
        firmware = await asyncio.to_thread(build_firmware, self.options.folder / "firmware")
        await self._start_backend()
        token = await self._make_owner()
        await self._start_gateway()
        for number in range(self.options.devices):
            await self._start_device(number, firmware)
        del token
        await self._until("every device's first report is acknowledged", self._all_heard)

    async def _start_backend(self) -> None:
        port = free_port()
        folder = self.options.folder
        self.backend_url = f"http://127.0.0.1:{port}"
        self.backend_config.write_text(f'[server]\nport = {port}\n[storage]\ndata_dir = "backend"\n')
        await self._surge("backend", "init", "--config", str(self.backend_config))
        await self._backend.start(
            surge_command("backend", "--config", str(self.backend_config)), environment()
        )
        self._public = OwnerClient(self.backend_url)
        await self._until("the backend answers", self._backend_ready, self._backend)
        self._tell(f"backend at {self.backend_url}, keys and database in {folder / 'backend'}")

    async def _backend_ready(self) -> bool:
        return await self.answers(self.backend_url + "/healthz")

    async def _make_owner(self) -> str:
        admin_token = (self.options.folder / "backend" / "admin.token").read_text().strip()
        admin = OwnerClient(self.backend_url, admin_token)
        try:
            made = await admin.post("/v1/owners", {"name": "demo"})
        finally:
            await admin.close()
        self.owner_id = made["owner_id"]
        self._owner = OwnerClient(self.backend_url, made["token"])
        return str(made["token"])

    async def _start_gateway(self) -> None:
        folder = self.options.folder
        config = folder / "gateway.toml"
        self.broker_port = free_port()
        config.write_text(
            f'[gateway]\nstate_dir = "gateway"\n[backend]\nurl = "{self.backend_url}"\n'
            f'[broker]\nport = {self.broker_port}\nfolder = "broker"\n'
            "[registry]\npoll_s = 0.5\n[status]\nenabled = true\n"
        )
        token_file = folder / "gateway-enrolment.token"
        write_private(token_file, await self._enrolment("gateway", "demo gateway"))
        await self._surge(
            "gateway", "init", "--config", str(config), "--backend", self.backend_url,
            "--enrolment-token-file", str(token_file),
        )  # fmt: skip
        await self._gateway.start(surge_command("gateway", "--config", str(config)), environment())
        await self._until("the gateway runs", self._gateway_ready, self._gateway)
        status = await self.gateway_status()
        self.gateway_id = str(status.get("gateway_id", ""))
        self._tell(f"gateway {self.gateway_id}, its MQTT broker (nats-server) on port {self.broker_port}")

    async def _gateway_ready(self) -> bool:
        url = self._status_url()
        return url is not None and await self.answers(url + "/healthz")

    async def _enrolment(self, kind: str, name: str) -> str:
        made = await self.owner.post("/v1/enrolments", {"kind": kind, "name": name})
        return str(made["enrolment_token"])

    async def _start_device(self, number: int, firmware: Path) -> None:
        name = DEVICE_NAMES[number % len(DEVICE_NAMES)] + ("" if number < len(DEVICE_NAMES) else f" {number}")
        folder = self.options.folder / f"device-{number + 1}"
        wanted = Enrolment(
            backend_url=self.backend_url,
            token=await self._enrolment("device", name),
            name=name,
            board="linux",
            settings={
                "broker_host": "127.0.0.1",
                "broker_port": self.broker_port,
                "report_interval_s": self.options.interval_s,
                "status_interval_s": 1,
            },
        )
        device_id = await asyncio.to_thread(enrol_device, wanted, folder, secrets.token_bytes)
        device = DemoDevice(name, device_id, folder, Child(name, folder / "console.log", lambda _line: None))
        device.child = Child(f"device {name}", folder / "console.log", device.status.take)
        self.devices.append(device)
        device.keeper = asyncio.create_task(self._keep(device, firmware), name=f"keep {name}")
        self._tell(f"device {device_id} ({name}): the firmware in MicroPython, {HEAP} of heap")

    async def _keep(self, device: DemoDevice, firmware: Path) -> None:
        """Start a device, and again when it asks for that, as a board's reset would."""
        if self.interpreter is None:
            raise RuntimeError("no interpreter was found yet")
        command = [
            *self.interpreter.argv,
            "-X",
            f"heapsize={HEAP}",
            str(firmware / "main.py"),
            str(device.folder),
        ]
        while not self._stopping:
            await device.child.start(command, {**environment(), "MICROPYPATH": f".frozen:{firmware}"})
            code = await device.child.wait()
            if code != RESTART_EXIT_CODE and not self._stopping:
                raise device.child.failed()

    async def _all_heard(self) -> bool:
        self.check()
        return all(device.status.acknowledged > 0 for device in self.devices)

    # --- while it runs ---------------------------------------------------------------------------------

    @property
    def public(self) -> OwnerClient:
        """A client without a token."""
        if self._public is None:
            raise RuntimeError("the backend was not started")
        return self._public

    @property
    def owner(self) -> OwnerClient:
        """A client with the owner's token."""
        if self._owner is None:
            raise RuntimeError("the owner was not made")
        return self._owner

    def check(self) -> None:
        """Raise for a part that ended although nobody asked it to."""
        for child in (self._backend, self._gateway):
            if not child.running:
                raise child.failed()
        for device in self.devices:
            if device.keeper is not None and device.keeper.done():
                device.keeper.result()

    def _status_url(self) -> str | None:
        path = self.options.folder / "gateway" / "status.url"
        try:
            return path.read_text().strip().rstrip("/") or None
        except FileNotFoundError:
            return None

    async def gateway_status(self) -> dict[str, Any]:
        """What the gateway's /status says."""
        async with httpx.AsyncClient(timeout=READY_TIMEOUT_S) as client:
            answer = await client.get(f"{self._status_url()}/status")
            return dict(answer.json())

    async def answers(self, url: str) -> bool:
        """Whether ``url`` answers with success by now."""
        try:
            async with httpx.AsyncClient(timeout=READY_TIMEOUT_S) as client:
                return (await client.get(url)).is_success
        except httpx.HTTPError:
            return False

    async def _until(
        self, what: str, ready: Callable[[], "asyncio.Future[bool] | Any"], child: Child | None = None
    ) -> None:
        """Ask ``ready`` until it says yes."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await ready():
                    if child is not None and not child.running:
                        raise child.failed()
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise UserError(
                f"gave up waiting until {what}",
                str(self.options.folder),
                "read the logs there (--keep DIR keeps them)",
            ) from None

    async def _surge(self, *arguments: str) -> None:
        """Run a ``surge`` command to its end."""
        child = Child(
            f"surge {' '.join(arguments[:2])}", self.options.folder / "setup.log", lambda _line: None
        )
        await child.start(surge_command(*arguments), environment())
        if await child.wait() != 0:
            raise child.failed()

    # --- down ------------------------------------------------------------------------------------------

    async def stop_devices(self) -> None:
        """Interrupt the devices; their last lines say what was made and acknowledged."""
        self._stopping = True
        await asyncio.gather(*(device.child.stop(signal.SIGINT) for device in self.devices))
        keepers = [device.keeper for device in self.devices if device.keeper is not None]
        await asyncio.gather(*keepers, return_exceptions=True)

    async def stop_gateway(self) -> None:
        """End the gateway: it sends what it has before it goes."""
        await self._gateway.stop(signal.SIGTERM)

    async def settle(self) -> dict[str, Any]:
        """Wait until telemetry has caught up with the log; returns the backend's figures."""
        stats: dict[str, Any] = {}
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while True:
                    stats = await self.public.get("/v1/stats")
                    if stats["telemetry_lag"] == 0:
                        return stats
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return stats  # the outcome shows that telemetry lags behind

    async def stop_backend(self) -> None:
        """End the backend."""
        for client in (self._public, self._owner):
            if client is not None:
                await client.close()
        self._public = self._owner = None
        await self._backend.stop(signal.SIGTERM)

    async def stop(self) -> None:
        """End whatever still runs, in the order of the flow."""
        await self.stop_devices()
        await self.stop_gateway()
        await self.stop_backend()


def free_port() -> int:
    """A TCP port of this machine that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def surge_command(*arguments: str) -> list[str]:
    """The command line of ``surge`` in this interpreter."""
    return [sys.executable, "-m", "surge_cli", *arguments]


def environment() -> dict[str, str]:
    """This process's environment, with unbuffered output from Python."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def load_identity(folder: Path) -> dict[str, str]:
    """What provisioning wrote for a device."""
    return dict(json.loads((folder / "identity.json").read_text()))
