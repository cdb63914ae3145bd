"""The network under torment: backend, gateways with their brokers, the cables between them, and its load.

Place in the flow: built of ``surge_cli.demo.parts``, broken by ``torment``, judged by ``books``. Does not
decide what breaks. Rules kept: a part that ends by itself is written down as a failure and started again, as
systemd would, so that one run shows every failure; waits here are shorter than the shipped ones, so that a
run of minutes sees as many recoveries as a week would.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from chaos.cable import Cable
from chaos.load import Load, board_parts
from chaos.mosquitto import MosquittoPart
from chaos.store import StorePart
from surge_backend.settings import read_settings
from surge_cli.demo.owner import OwnerClient
from surge_cli.demo.parts import BackendPart, Firmware, GatewayPart, Part, wait_until
from surge_cli.firmware_build import build_firmware
from surge_cli.micropython import find_micropython
from surge_host.errors import UserError

POLL_S = 0.1
WATCH_S = 0.5
START_TIMEOUT_S = 120
DRAIN_TIMEOUT_S = 300
HTTP_TIMEOUT_S = 10
GATEWAY_ENVIRONMENT = {
    "SURGE_GATEWAY_GATEWAY_LOG_FORMAT": "json",
    "SURGE_GATEWAY_BACKEND_TIMEOUT_MS": "5000",
    "SURGE_GATEWAY_BACKEND_RETRY_MAX_MS": "2000",
    "SURGE_GATEWAY_BROKER_RESTART_DELAY_MS_MAX": "2000",
    "SURGE_GATEWAY_MQTT_RECONNECT_DELAY_MS_MAX": "2000",
    "SURGE_GATEWAY_TRANSPARENCY_CHECK_S": "1",
}
BACKEND_ENVIRONMENT = {"SURGE_BACKEND_LOG_FORMAT": "json"}


@dataclass(frozen=True)
class Plan:
    """What stands there."""

    folder: Path
    seed: int
    gateways: int = 2
    boards: int = 4
    board_interval_s: float = 0.2
    devices: int = 100  # simulated
    device_interval_s: float = 1.0
    mosquitto: bool = False
    workers: int = 1
    influx: bool = False


class Site:
    """``tell`` gets a line for each step; ``failures`` collects what must not have happened."""

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self.plan = plan
        self.failures: list[str] = []
        self.gateways: list[GatewayPart] = []
        self.brokers: list[MosquittoPart] = []
        self.cables: list[Cable] = []
        arguments = ("--workers", str(plan.workers)) if plan.workers > 1 else ()
        self.store = StorePart(plan.folder) if plan.influx else None
        self.backend = BackendPart(
            plan.folder,
            sections=self.store.backend_sections() if self.store else "",
            arguments=arguments,
            more_environment=BACKEND_ENVIRONMENT,
        )
        self.load = Load(plan.seed, ())
        self.peaks: dict[str, int] = {}  # open file descriptors, the most that each part had
        self._tell = tell
        self._rng = random.Random(plan.seed + 2)
        self._http = httpx.AsyncClient(timeout=HTTP_TIMEOUT_S)
        self._owner: OwnerClient | None = None
        self._watching: asyncio.Task[None] | None = None

    # --- up --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring everything up; returns when every board has a report acknowledged."""
        plan = self.plan
        interpreter = await asyncio.to_thread(find_micropython)
        firmware = Firmware(interpreter, await asyncio.to_thread(build_firmware, plan.folder / "firmware"))
        if self.store is not None:
            await self.store.start()
            await self._until_up(self.store, self.store.ready)
        await self.backend.initialise()
        await self.backend.start()
        await self._until_up(self.backend, self.backend.ready)
        owner_id, self._owner = await self.backend.make_owner("chaos")
        for index in range(plan.gateways):
            await self._add_gateway(index, self._owner)
        self.load = Load(plan.seed, [gateway.broker_port for gateway in self.gateways])
        await self.load.enrol(
            owner_id,
            self._owner,
            read_settings(self.backend.config),
            self.backend.url,
            board_parts(plan.folder, plan.boards, firmware),
            plan.board_interval_s,
            plan.devices,
        )
        for broker in self.brokers:
            await broker.write_files()
            await broker.start()
        for gateway in self.gateways:
            await gateway.start()
        for index, gateway in enumerate(self.gateways):
            await self._until_up(gateway, self._knows(index))
        await self.load.start(plan.device_interval_s)
        await self.until("every board's first report is acknowledged", self.load.all_heard, START_TIMEOUT_S)
        self._watching = asyncio.create_task(self._watch(), name="watch")
        self._tell(
            f"backend{f' with {plan.workers} workers' if plan.workers > 1 else ''}, {plan.gateways} gateways "
            f"({'Mosquitto' if plan.mosquitto else 'nats-server'}), {plan.boards} boards in MicroPython "
            f"{interpreter.version} with a report each {plan.board_interval_s} s, {plan.devices} simulated "
            f"devices with one each {plan.device_interval_s} s{', InfluxDB' if plan.influx else ''}"
        )

    async def _add_gateway(self, index: int, owner: OwnerClient) -> None:
        cable = Cable(self.backend.port)
        await cable.start()
        self.cables.append(cable)
        gateway = GatewayPart(
            self.plan.folder,
            f"http://127.0.0.1:{cable.port}",
            name=f"gateway-{index + 1}",
            more_environment=GATEWAY_ENVIRONMENT,
        )
        await gateway.enrol(owner, f"chaos {index + 1}")
        if self.plan.mosquitto:
            broker = MosquittoPart(self.plan.folder, gateway)
            gateway.add_environment(broker.gateway_environment())
            self.brokers.append(broker)
        self.gateways.append(gateway)

    def _knows(self, index: int) -> Callable[[], Awaitable[bool]]:
        async def knows() -> bool:
            status = await self.gateway_status(index)
            if status is None or not status["broker"]["connected"]:
                return False
            return bool(status["devices"]["enrolled"] >= self.load.devices)

        return knows

    # --- while it runs ---------------------------------------------------------------------------------

    @property
    def parts(self) -> list[Part]:
        """Every process that was started here."""
        boards = [board.part for board in self.load.boards]
        stores = [] if self.store is None else [self.store]
        return [*stores, self.backend, *self.brokers, *self.gateways, *boards]

    async def _watch(self) -> None:
        """Write down what ends by itself, and start it again."""
        while True:
            self.load.check()
            for part in self.parts:
                try:
                    part.check()
                except UserError as error:
                    self.failures.append(f"{part.name} ended by itself: {error.remedy}")
                    await part.start()
                if part.child.pid is not None:
                    self.peaks[part.name] = max(self.peaks.get(part.name, 0), _descriptors(part.child.pid))
            await asyncio.sleep(WATCH_S)

    async def gateway_status(self, index: int) -> dict[str, Any] | None:
        """What a gateway says of itself; None while it doesn't answer."""
        try:
            return await self.gateways[index].status()
        except (httpx.HTTPError, httpx.InvalidURL, json.JSONDecodeError):
            return None

    async def stats(self) -> dict[str, Any] | None:
        """The backend's public figures; None while it doesn't answer."""
        try:
            answer = await self._http.get(self.backend.url + "/v1/stats")
        except httpx.HTTPError:
            return None
        return dict(answer.json()) if answer.is_success else None

    async def _until_up(self, part: Part, ready: Callable[[], Awaitable[bool]]) -> None:
        """At the start, where there is nothing to test yet: raises UserError if ``part`` doesn't come up."""
        await wait_until(
            f"{part.name} is up",
            ready,
            where=part.child.log_path,
            timeout_s=START_TIMEOUT_S,
            poll_s=POLL_S,
            part=part,
        )

    async def until(self, what: str, ready: Callable[[], Awaitable[bool]], timeout_s: float) -> bool:
        """Ask until it holds. A time-out is a failure of the run, and False."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await ready():  # noqa: ASYNC110 - asks processes, which set no event here
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            self.failures.append(f"gave up after {timeout_s:.0f} s waiting until {what}")
            return False
        return True

    def broker_pid(self, index: int) -> int | None:
        """The process that is a gateway's broker, None while there is none."""
        if self.brokers:
            return self.brokers[index].child.pid
        gateway = self.gateways[index].child.pid
        return None if gateway is None else max(_children(gateway, "nats-server"), default=None)

    def worker_pid(self) -> int | None:
        """One of the backend's workers, any of them; None while there is none."""
        backend = self.backend.child.pid
        workers = [] if backend is None else _children(backend, "")
        return self._rng.choice(workers) if workers else None

    # --- down ------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Nothing new is made; everything that was made reaches the books."""
        self._tell("draining: devices, gateways, telemetry")
        self.failures += await self.load.drain(self.until)
        for index, gateway in enumerate(self.gateways):
            await self.until(f"{gateway.name} has sent everything", self._sent(index), DRAIN_TIMEOUT_S)
        await self.until("telemetry has caught up", self._caught_up, DRAIN_TIMEOUT_S)

    def _sent(self, index: int) -> Callable[[], Awaitable[bool]]:
        async def sent() -> bool:
            status = await self.gateway_status(index)
            return status is not None and not status["spool"]["waiting"] and not status["batches"]["backlog"]

        return sent

    async def _caught_up(self) -> bool:
        stats = await self.stats()
        return stats is not None and stats["telemetry_lag"] == 0

    async def stop(self) -> None:
        """End everything but the telemetry store in the order of the flow. Safe to call twice."""
        if self._watching is not None:
            watching, self._watching = self._watching, None
            watching.cancel()
            await asyncio.wait((watching,))
            if not watching.cancelled() and watching.exception() is not None:
                self.failures.append(f"the watch ended: {watching.exception()!r}")
        await self.load.stop()
        for part in (*self.gateways, *self.brokers, self.backend):
            await part.stop()
        for cable in self.cables:
            await cable.stop()
        await self._http.aclose()
        if self._owner is not None:
            await self._owner.close()
            self._owner = None


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:  # it ended meanwhile
        return 0


def _children(parent: int, name: str) -> list[int]:
    """Children of ``parent`` that run the program ``name``, or any where that is empty."""
    found = []
    for listing in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            for pid in listing.read_text().split():
                if not name or Path("/proc", pid, "comm").read_text().strip() == name:
                    found.append(int(pid))
        except OSError:  # it ended meanwhile
            continue
    return found


def now_s() -> float:
    """For durations."""
    return time.monotonic()
