"""What keeps the network busy: MicroPython boards with the real firmware, and a fleet of simulated devices.

Place in the flow: ``site`` starts it once the servers run; ``torment`` kills its boards, the fleet's plan
cuts its own power. Rule kept: of every device it is known, from its flash or its journal, what it ever made,
so that ``books`` needs nobody's word for it.
"""

import asyncio
import json
import random
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from chaos.flash import Flash, cut_power
from surge_backend.settings import Settings
from surge_cli.demo.owner import OwnerClient
from surge_cli.demo.parts import BoardPart, Firmware
from surge_cli.provisioning import write_private
from surge_cli.simulate.device import Identity
from surge_cli.simulate.dialler import Address
from surge_cli.simulate.enrolment import enrol_in_database
from surge_cli.simulate.fleet import Fleet
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.plan import Plan, Wrongs
from surge_cli.simulate.stage import Pace

QUIET_INTERVAL_S = 86_400
DRAIN_TIMEOUT_S = 300
CONNECT_TIMEOUT_S = 120
# The fleet is honest, its radio and power are not. Its devices dial again sooner than shipped ones would.
WRONGS = Wrongs(loss=0.02, duplicate=0.02, reorder=0.02, reboots=0.01, skew=0.2)
REDIAL = Pace(base_ms=500, cap_ms=5_000, refused_cap_ms=5_000)

Until = Callable[[str, Callable[[], Awaitable[bool]], float], Awaitable[bool]]


class Board:
    """A MicroPython board, what was on its flash whenever it was off, and at which gateway it is."""

    def __init__(self, part: BoardPart, gateway: int) -> None:
        self.part = part
        self.gateway = gateway
        self.flash = Flash()

    def configure(self, **changes: Any) -> None:
        """Change the firmware's settings while it is off."""
        path = self.part.folder / "settings.json"
        write_private(path, json.dumps({**json.loads(path.read_text()), **changes}))

    async def kill(self, power_cut: random.Random | None) -> None:
        """As pulling the plug does; then look at its flash. With ``power_cut`` it loses unsynced bytes."""
        await self.part.kill()
        if power_cut is not None:
            await asyncio.to_thread(cut_power, self.part.folder, power_cut)
        await self.look()

    async def look(self) -> None:
        """At its flash, while it is off."""
        await asyncio.to_thread(self.flash.look, self.part.folder)

    async def quieten(self) -> int:
        """Start it anew with one reading and no more; returns the boot before."""
        boot = self.part.status.boot
        await self.part.stop(signal.SIGTERM)
        await self.look()
        self.configure(report_interval_s=QUIET_INTERVAL_S)
        await self.part.start()
        return boot

    def emptied(self, boot_before: int) -> Callable[[], Awaitable[bool]]:
        """Whether the boot after ``boot_before`` has made its report and nothing waits."""

        async def emptied() -> bool:
            status = self.part.status
            made = status.made_by_boot.get(status.boot, 0)
            return status.boot > boot_before and made > 0 and not status.waiting

        return emptied


class Load:
    """``ports`` are the brokers', one for each gateway."""

    def __init__(self, seed: int, ports: Sequence[int]) -> None:
        self.boards: list[Board] = []
        self.journal = Journal()
        self._fleet: Fleet | None = None
        self._identities: list[Identity] = []
        self._seed = seed
        self._ports = tuple(ports)
        self._rng = random.Random(seed + 1)

    async def enrol(
        self,
        owner_id: str,
        owner: OwnerClient,
        settings: Settings,
        backend_url: str,
        boards: Sequence[BoardPart],
        interval_s: float,
        devices: int,
    ) -> None:
        """Have the backend know all of them."""
        for index, part in enumerate(boards):
            gateway = index % len(self._ports)
            firmware_settings = {
                "broker_host": "127.0.0.1",
                "broker_port": self._ports[gateway],
                "report_interval_s": interval_s,
                "status_interval_s": 1,
            }
            await part.enrol(owner, backend_url, firmware_settings)
            self.boards.append(Board(part, gateway))
        if devices:
            self._identities = await asyncio.to_thread(enrol_in_database, settings, owner_id, devices)

    @property
    def devices(self) -> int:
        """How many there are, boards among them."""
        return len(self.boards) + len(self._identities)

    async def start(self, interval_s: float) -> None:
        """Returns when every simulated device is connected; boards take their time."""
        for board in self.boards:
            await board.part.start()
        if self._identities:
            self._fleet = Fleet(
                self._identities,
                [Address("127.0.0.1", port) for port in self._ports],
                Plan(self._seed, len(self._identities), WRONGS),
                self.journal,
                interval_ms=interval_s * 1000,
                pace=REDIAL,
            )
            await self._fleet.connect(CONNECT_TIMEOUT_S)
            self._fleet.take_readings()

    async def all_heard(self) -> bool:
        """Whether every board has a report acknowledged."""
        return all(board.part.status.acknowledged > 0 for board in self.boards)

    def check(self) -> None:
        """Raise what went wrong in the fleet itself."""
        if self._fleet is not None:
            self._fleet.check()

    async def kill_board(self, index: int, *, power_cut: bool, move: bool) -> None:
        """And perhaps have it come back at the next gateway."""
        board = self.boards[index]
        await board.kill(self._rng if power_cut else None)
        if move and len(self._ports) > 1:
            board.gateway = (board.gateway + 1) % len(self._ports)
            board.configure(broker_port=self._ports[board.gateway])

    async def drain(self, until: Until) -> list[str]:
        """Nothing new is made, all that was made is acknowledged. Returns what went wrong."""
        boots = [await board.quieten() for board in self.boards]
        for board, boot in zip(self.boards, boots, strict=True):
            await until(f"{board.part.name} has emptied its outbox", board.emptied(boot), DRAIN_TIMEOUT_S)
        left = 0 if self._fleet is None else await self._fleet.drain(DRAIN_TIMEOUT_S)
        return [f"{left} simulated devices have not emptied their outboxes"] if left else []

    async def stop(self) -> None:
        """End all of them. Safe to call twice."""
        if self._fleet is not None:
            fleet, self._fleet = self._fleet, None
            await fleet.close()
        await asyncio.gather(*(board.part.stop(signal.SIGTERM) for board in self.boards))

    async def made(self) -> tuple[Mapping[str, Iterable[tuple[int, int]]], list[str]]:
        """Of every device, once all is stopped, the (boot, seq) that it ever made; and what is wrong with
        boards that should have nothing left."""
        found = {device: self.journal.sealed_names(device) for device in self.journal.sealings}
        wrong = []
        for board in self.boards:
            await board.look()
            flash = board.flash
            found[board.part.device_id] = flash.names()
            if flash.unacked or flash.pending or flash.damaged:
                wrong.append(
                    f"{board.part.name} has {len(flash.unacked)} unacknowledged, {flash.pending} pending and "
                    f"{flash.damaged} damaged records on its flash"
                )
        return found, wrong


def board_parts(plan_folder: Any, count: int, firmware: Firmware) -> list[BoardPart]:
    """Boards that are not enrolled yet."""
    names = [f"board-{number + 1}" for number in range(count)]
    return [BoardPart(name, plan_folder / name, firmware) for name in names]
