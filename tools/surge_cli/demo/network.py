"""Builds the demo's network step by step, as a person would with the same commands, and takes it down in
the order of the flow.

Place in the flow: under ``demo.command``, above ``demo.parts``. Does not display (``view``) or judge
(``outcome``).
"""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surge_cli.demo.owner import OwnerClient
from surge_cli.demo.parts import HEAP, BackendPart, BoardPart, Firmware, GatewayPart, Part, wait_until
from surge_cli.firmware_build import build_firmware
from surge_cli.micropython import Interpreter, find_micropython

READY_TIMEOUT_S = 60
POLL_S = 0.1
SETTLE_TIMEOUT_S = 30
DEVICE_NAMES = ("attic", "balcony", "cellar", "dining room", "entrance", "freezer", "garage", "hall")


@dataclass(frozen=True)
class Options:
    """What the person asked for."""

    devices: int
    interval_s: float
    folder: Path


class Network:
    """The running demo. ``tell`` gets one line for each step."""

    def __init__(self, options: Options, tell: Callable[[str], None]) -> None:
        self.options = options
        self.devices: list[BoardPart] = []
        self.gateway_id = ""
        self.owner_id = ""
        self.interpreter: Interpreter | None = None
        self.backend = BackendPart(options.folder)
        self.gateway = GatewayPart(options.folder, self.backend.url)
        self._tell = tell
        self._public: OwnerClient | None = None
        self._owner: OwnerClient | None = None

    # --- up --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring everything up; returns when every device has a report acknowledged."""
        self.interpreter = await asyncio.to_thread(find_micropython, tell=self._tell)
        self._tell(f"MicroPython {self.interpreter.version} ({self.interpreter.source})")
        folder = await asyncio.to_thread(build_firmware, self.options.folder / "firmware")
        firmware = Firmware(self.interpreter, folder)
        await self._start_backend()
        await self._start_gateway()
        for number in range(self.options.devices):
            await self._start_device(number, firmware)
        await self._until("every device's first report is acknowledged", self._all_heard)

    async def _start_backend(self) -> None:
        backend = self.backend
        await backend.initialise()
        await backend.start()
        self._public = OwnerClient(backend.url)
        await self._until("the backend answers", backend.ready, backend)
        self._tell(f"backend at {backend.url}, keys and database in {backend.data_dir}")
        self.owner_id, self._owner = await backend.make_owner("demo")

    async def _start_gateway(self) -> None:
        gateway = self.gateway
        await gateway.enrol(self.owner, "demo gateway")
        await gateway.start()
        await self._until("the gateway runs", gateway.ready, gateway)
        self.gateway_id = str((await gateway.status()).get("gateway_id", ""))
        self._tell(f"gateway {self.gateway_id}, its MQTT broker (nats-server) on port {gateway.broker_port}")

    async def _start_device(self, number: int, firmware: Firmware) -> None:
        name = DEVICE_NAMES[number % len(DEVICE_NAMES)] + ("" if number < len(DEVICE_NAMES) else f" {number}")
        device = BoardPart(name, self.options.folder / f"device-{number + 1}", firmware)
        settings = {
            "broker_host": "127.0.0.1",
            "broker_port": self.gateway.broker_port,
            "report_interval_s": self.options.interval_s,
            "status_interval_s": 1,
        }
        await device.enrol(self.owner, self.backend.url, settings)
        await device.start()
        self.devices.append(device)
        self._tell(f"device {device.device_id} ({name}): the firmware in MicroPython, {HEAP} of heap")

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
        for part in (self.backend, self.gateway, *self.devices):
            part.check()

    async def _until(self, what: str, ready: Callable[[], Any], part: Part | None = None) -> None:
        await wait_until(
            what, ready, where=self.options.folder, timeout_s=READY_TIMEOUT_S, poll_s=POLL_S, part=part
        )

    # --- down ------------------------------------------------------------------------------------------

    async def stop_devices(self) -> None:
        """Interrupt the devices; their last lines say what was made and acknowledged."""
        await asyncio.gather(*(device.stop(signal.SIGINT) for device in self.devices))

    async def stop_gateway(self) -> None:
        """End the gateway: it sends what it has before it goes."""
        await self.gateway.stop()

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
        await self.backend.stop()

    async def stop(self) -> None:
        """End whatever still runs, in the order of the flow."""
        await self.stop_devices()
        await self.stop_gateway()
        await self.stop_backend()
