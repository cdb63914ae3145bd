"""The network that a simulation runs against: one of its own, made to be thrown away.

Place in the flow: under ``simulate.command``, above ``surge_cli.demo.parts``: a backend and gateways, each
with its broker, as processes of their own. Does not know the fleet. Rules kept: devices are in the database
before the first gateway asks for them; the network is taken down in the order of the flow, and what a gateway
still has is waited for.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from surge_backend.settings import Settings, read_settings
from surge_cli.demo.owner import OwnerClient
from surge_cli.demo.parts import BackendPart, GatewayPart, wait_until
from surge_cli.simulate.books import Books, check_books
from surge_cli.simulate.device import Identity
from surge_cli.simulate.dialler import Address
from surge_cli.simulate.enrolment import enrol_in_database
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.plan import Plan
from surge_cli.simulate.probe import lets_in
from surge_host.errors import UserError

READY_TIMEOUT_S = 60
READY_S_PER_THOUSAND = 20  # and so much more for each thousand devices: the broker's reload checks them
POLL_S = 0.1
GATEWAYS_MAX = 16
CONNECTIONS_BESIDE = 1_000  # of a broker: second holders of keys, and devices that come back

# Every device may be at every gateway: sessions take 10 KiB of a broker's store each, roughly.
_STORE_BYTES_PER_DEVICE = 64 * 1024
_STORE_BYTES_MIN = 256 * 1024 * 1024
_MEMORY_STORE_BYTES_MIN = 16 * 1024 * 1024
_MEMORY_STORE_BYTES_PER_DEVICE = 4 * 1024


class Site:
    """A backend and ``gateways`` gateways in ``folder``. ``tell`` gets one line for each step.

    ``backend_sections`` and ``gateway_sections`` are added to their settings files."""

    def __init__(
        self,
        folder: Path,
        tell: Callable[[str], None],
        *,
        devices: int,
        gateways: int = 1,
        backend_sections: str = "",
        gateway_sections: str = "",
    ) -> None:
        if not 1 <= gateways <= GATEWAYS_MAX:
            raise UserError(
                "too many or too few gateways", f"--gateways {gateways}", f"choose 1 to {GATEWAYS_MAX}"
            )
        self.folder = folder
        self.devices = devices
        self.backend = BackendPart(folder, sections=backend_sections)
        names = ["gateway" if number == 0 else f"gateway-{number + 1}" for number in range(gateways)]
        broker = _broker_limits(devices)
        self.gateways = [
            GatewayPart(folder, self.backend.url, name=name, sections=gateway_sections, broker_lines=broker)
            for name in names
        ]
        self.owner_id = ""
        self.identities: list[Identity] = []
        self._tell = tell
        self._owner: OwnerClient | None = None
        self._public: OwnerClient | None = None

    @property
    def where(self) -> str:
        """For a person who looks on."""
        return f"logs {self.folder}   backend {self.backend.url}/"

    @property
    def addresses(self) -> list[Address]:
        """Where the gateways' brokers listen."""
        return [Address("127.0.0.1", gateway.broker_port) for gateway in self.gateways]

    @property
    def settings(self) -> Settings:
        """The backend's."""
        return read_settings(self.backend.config)

    @property
    def ready_timeout_s(self) -> float:
        """How long starting may take with so many devices."""
        return READY_TIMEOUT_S + self.devices / 1000 * READY_S_PER_THOUSAND

    async def start(self) -> None:
        """Bring everything up; returns when every gateway knows every device."""
        backend = self.backend
        await backend.initialise()
        await backend.start()
        self._public = OwnerClient(backend.url)
        await self._until("the backend answers", backend.ready, backend)
        self.owner_id, self._owner = await backend.make_owner("simulation")
        self._tell(f"backend at {backend.url}, data in {backend.data_dir}")
        self.identities = await asyncio.to_thread(
            enrol_in_database, self.settings, self.owner_id, self.devices
        )
        self._tell(f"{self.devices:,} devices enrolled")
        for gateway in self.gateways:
            await gateway.enrol(self._owner, f"simulated {gateway.name}")
            await gateway.start()
        for gateway in self.gateways:
            await self._until(f"{gateway.name} runs", gateway.ready, gateway)

            async def knows(one: GatewayPart = gateway) -> bool:
                address = Address("127.0.0.1", one.broker_port)
                status = await one.status()
                return bool(status["broker"]["connected"]) and await lets_in(self.identities[-1], address)

            await self._until(f"{gateway.name} lets every device in", knows, gateway)
            self._tell(f"{gateway.name} with its MQTT broker on port {gateway.broker_port}")

    async def _until(self, what: str, ready: Callable[[], Any], part: BackendPart | GatewayPart) -> None:
        await wait_until(
            what, ready, where=self.folder, timeout_s=self.ready_timeout_s, poll_s=POLL_S, part=part
        )

    def check(self) -> None:
        """Raise for a part that ended although nobody asked it to."""
        for part in (self.backend, *self.gateways):
            part.check()

    @property
    def public(self) -> OwnerClient:
        """A client of the backend without a token."""
        if self._public is None:
            raise RuntimeError("the site was not started")
        return self._public

    async def gateway_statuses(self) -> list[dict[str, Any]]:
        """What each gateway's ``/status`` says."""
        return [await gateway.status() for gateway in self.gateways]

    async def stats(self) -> dict[str, Any]:
        """The backend's public numbers; empty where it doesn't answer now."""
        try:
            return dict(await self.public.get("/v1/stats"))
        except UserError:
            return {}

    async def settle(self, timeout_s: float) -> None:
        """Wait until every report is settled and telemetry has caught up. UserError at the time-out."""

        async def settled() -> bool:
            self.check()
            try:
                statuses = await self.gateway_statuses()
                stats = await self.public.get("/v1/stats")
            except (httpx.HTTPError, UserError):
                return False  # busy: asked again
            waiting = sum(one["spool"]["waiting"] + one["batches"]["backlog"] for one in statuses)
            return bool(waiting == 0 and stats["telemetry_lag"] == 0)

        await wait_until(
            "every report is settled", settled, where=self.folder, timeout_s=timeout_s, poll_s=POLL_S
        )

    async def conclude(self, plan: Plan, journal: Journal, undrained: int, timeout_s: float) -> Books:
        """Wait until all is settled, stop everything, and compare report by report."""
        await self.settle(timeout_s)
        statuses = await self.gateway_statuses()
        await self.stop()
        self._tell("comparing what was made with what the backend has")
        return await asyncio.to_thread(
            check_books, self.settings, plan, journal, self.identities, statuses, undrained
        )

    async def stop(self) -> None:
        """End everything in the order of the flow."""
        await asyncio.gather(*(gateway.stop() for gateway in self.gateways))
        for client in (self._public, self._owner):
            if client is not None:
                await client.close()
        self._public = self._owner = None
        await self.backend.stop()


def _broker_limits(devices: int) -> str:
    """Lines of ``[broker]``: room for every device, which the defaults have for some thousands."""
    connections = max(20_000, devices + CONNECTIONS_BESIDE)
    file_store = max(_STORE_BYTES_MIN, devices * _STORE_BYTES_PER_DEVICE)
    memory_store = max(_MEMORY_STORE_BYTES_MIN, devices * _MEMORY_STORE_BYTES_PER_DEVICE)
    return (
        f"connections_max = {connections}\nfile_store_bytes_max = {file_store}\n"
        f"memory_store_bytes_max = {memory_store}\n"
    )
