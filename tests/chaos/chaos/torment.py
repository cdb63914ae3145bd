"""Carries a schedule out on a site, and watches each victim until reports flow through it again.

Place in the flow: ``run_chaos`` gives it the schedule; what it finds goes to ``site.failures`` and
``Recoveries``. Rules kept: a victim is in one disturbance at a time; disturbances of different victims
overlap, and so does the recovery from the one with the next, unless the schedule says calm.
"""

import asyncio
import os
import signal
import statistics
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from chaos.load import Board
from chaos.schedule import Deed, Disturbance
from chaos.site import Site, now_s
from surge_cli.demo.parts import Part

RECOVERY_TIMEOUT_S = 240
PID_POLL_S = 0.02

Flows = Callable[[], Awaitable[bool]]


@dataclass
class Recoveries:
    """Per role: how often each deed was done, and seconds from the new start until reports flowed."""

    deeds: dict[tuple[str, str], int] = field(default_factory=dict)
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    hit_again: dict[tuple[str, str], int] = field(default_factory=dict)
    kills: int = 0

    def rows(self) -> list[tuple[str, str, int, int, float | None, float | None]]:
        """(role, deed, times, hit again before it had recovered, median s, longest s)."""
        found = []
        for key, times in sorted(self.deeds.items()):
            seconds = self.seconds.get(key, [])
            middle = statistics.median(seconds) if seconds else None
            found.append((*key, times, self.hit_again.get(key, 0), middle, max(seconds, default=None)))
        return found


class Torment:
    """One run. ``tell`` gets a line for each disturbance."""

    def __init__(self, site: Site, tell: Callable[[str], None]) -> None:
        self.found = Recoveries()
        self._site = site
        self._tell = tell
        self._busy: dict[str, asyncio.Lock] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def roles(self) -> list[list[str]]:
        """The victims of each role, as ``schedule`` wants them."""
        site = self._site
        count = range(1, len(site.gateways) + 1)
        return [
            ["backend"],
            [f"gateway-{number}" for number in count],
            [f"broker-{number}" for number in count],
            [f"board-{number}" for number in range(1, len(site.load.boards) + 1)],
            [f"cable-{number}" for number in count],
            *([] if site.store is None else [["store"]]),
            *([] if site.plan.workers == 1 else [["worker"]]),
        ]

    async def run(self, schedule: Iterator[Disturbance], kills: int, seconds: float) -> None:
        """Until so many were killed and so much time is up; returns when all has recovered."""
        began_s = now_s()
        while self.found.kills < kills or now_s() - began_s < seconds:
            disturbance = next(schedule)
            if disturbance.calm_before:
                await self._calm()
            await asyncio.sleep(disturbance.wait_s)
            locks = [self._busy.setdefault(victim, asyncio.Lock()) for victim in disturbance.victims]
            for lock in locks:
                await lock.acquire()
            self.found.kills += disturbance.kills
            self._tell(f"#{disturbance.number} {disturbance} ({self.found.kills} killed)")
            for index, (victim, lock) in enumerate(zip(disturbance.victims, locks, strict=True)):
                task = asyncio.create_task(
                    self._strike(disturbance, victim, index * disturbance.apart_s, lock), name=victim
                )
                self._running.add(task)
        await self._calm()

    async def _calm(self) -> None:
        while self._running:
            running = tuple(self._running)
            await asyncio.gather(*running)
            self._running.difference_update(running)
        await asyncio.gather(*self._watchers.values())

    async def _strike(
        self, disturbance: Disturbance, victim: str, after_s: float, lock: asyncio.Lock
    ) -> None:
        try:
            await asyncio.sleep(after_s)
            if disturbance.deed is Deed.KILL:
                await self._kill(disturbance, victim)
                if disturbance.again_s is not None:
                    await asyncio.sleep(disturbance.again_s)
                    await self._kill(disturbance, victim)
            else:
                await self._hinder(disturbance, victim)
        finally:
            lock.release()

    # --- deeds -----------------------------------------------------------------------------------------

    async def _kill(self, disturbance: Disturbance, victim: str) -> None:
        role, index = _split(victim)
        site = self._site
        self._forget_watcher(victim, disturbance)
        if role == "broker" and not site.brokers:
            since = await site.gateway_status(index)
            await _kill_soon(lambda: site.broker_pid(index))
            self._watch(victim, disturbance, self._flows_through_gateway(index, since))
            return
        if role == "worker":
            flows = self._flows_through_backend(await site.stats())
            await _kill_soon(site.worker_pid)
            self._watch(victim, disturbance, flows)
            return
        part = self._part(victim)
        if role == "board":
            await site.load.kill_board(index, power_cut=disturbance.power_cut, move=disturbance.move)
        else:
            await part.kill()
        await asyncio.sleep(disturbance.down_s)
        flows = await self._flows(victim)
        await part.start()
        self._watch(victim, disturbance, flows)

    async def _hinder(self, disturbance: Disturbance, victim: str) -> None:
        role, index = _split(victim)
        self._forget_watcher(victim, disturbance)
        flows = await self._flows(victim)
        if role == "cable":
            cable = self._site.cables[index]
            cable.break_by(disturbance.deed)
            await asyncio.sleep(disturbance.down_s)
            cable.heal()
        elif role in ("broker", "worker"):
            pid = self._site.broker_pid(index) if role == "broker" else self._site.worker_pid()
            if pid is not None:
                _signal(pid, signal.SIGSTOP)
                await asyncio.sleep(disturbance.down_s)
                _signal(pid, signal.SIGCONT)
        else:
            part = self._part(victim)
            part.pause()
            await asyncio.sleep(disturbance.down_s)
            part.resume()
        self._watch(victim, disturbance, flows)

    def _part(self, victim: str) -> Part:
        role, index = _split(victim)
        site = self._site
        if role == "backend":
            return site.backend
        if role == "store" and site.store is not None:
            return site.store
        if role == "gateway":
            return site.gateways[index]
        if role == "broker":
            return site.brokers[index]
        return site.load.boards[index].part

    # --- recovery --------------------------------------------------------------------------------------

    def _forget_watcher(self, victim: str, disturbance: Disturbance) -> None:
        key = (_split(victim)[0], disturbance.deed.value)
        self.found.deeds[key] = self.found.deeds.get(key, 0) + 1
        watcher = self._watchers.pop(victim, None)
        if watcher is not None and not watcher.done():
            watcher.cancel()
            self.found.hit_again[key] = self.found.hit_again.get(key, 0) + 1

    def _watch(self, victim: str, disturbance: Disturbance, flows: Flows) -> None:
        self._watchers[victim] = asyncio.create_task(
            self._recover(victim, disturbance, flows), name=f"recovery of {victim}"
        )

    async def _recover(self, victim: str, disturbance: Disturbance, flows: Flows) -> None:
        began_s = now_s()
        what = f"reports flow through {victim} again after #{disturbance.number}"
        try:
            if await self._site.until(what, flows, RECOVERY_TIMEOUT_S):
                key = (_split(victim)[0], disturbance.deed.value)
                self.found.seconds.setdefault(key, []).append(now_s() - began_s)
        except asyncio.CancelledError:
            pass  # hit again first

    async def _flows(self, victim: str) -> Flows:
        """Whether reports flow through ``victim`` again, counted from now."""
        role, index = _split(victim)
        site = self._site
        if role in ("backend", "worker"):
            return self._flows_through_backend(await site.stats())
        if role == "store":
            return self._flows_into_store
        if role == "board":
            return _flows_from_board(site.load.boards[index])
        status = (
            await site.gateway_status(index) if role != "gateway" or site.gateways[index].wanted else None
        )
        if role == "cable":
            return self._flows_through_cable(index, status)
        return self._flows_through_gateway(index, status)

    def _flows_through_backend(self, before: dict[str, Any] | None) -> Flows:
        size = before

        async def flows() -> bool:
            nonlocal size
            now = await self._site.stats()
            if size is None:
                size = now
            return now is not None and size is not None and now["tree_size"] > size["tree_size"]

        return flows

    async def _flows_into_store(self) -> bool:
        now = await self._site.stats()
        return now is not None and now["telemetry_lag"] == 0 and now["tree_size"] > 0

    def _flows_through_gateway(self, index: int, before: dict[str, Any] | None) -> Flows:
        return self._counter_rises(index, before, lambda status: int(status["reports"]["stored"]))

    def _flows_through_cable(self, index: int, before: dict[str, Any] | None) -> Flows:
        return self._counter_rises(index, before, lambda status: int(status["batches"]["confirmed"]))

    def _counter_rises(
        self, index: int, before: dict[str, Any] | None, count: Callable[[dict[str, Any]], int]
    ) -> Flows:
        async def flows() -> bool:
            now = await self._site.gateway_status(index)
            if now is None or not now["broker"]["connected"]:
                return False
            same_run = before is not None and before["started_ms"] == now["started_ms"]
            return count(now) > (count(before) if same_run and before is not None else 0)

        return flows


def _flows_from_board(board: Board) -> Flows:
    """A report of a later boot is acknowledged, or of this one where it goes on."""
    boot, acked = board.part.status.boot, board.part.status.acked
    off = not board.part.wanted

    async def flows() -> bool:
        status = board.part.status
        return status.acked > 0 if status.boot > boot else not off and status.acked > acked

    return flows


async def _kill_soon(find: Callable[[], int | None]) -> None:
    """A child of another part, which is gone while that is down: the next one then."""
    while (pid := find()) is None:  # noqa: ASYNC110 - a process, which sets no event here
        await asyncio.sleep(PID_POLL_S)
    _signal(pid, signal.SIGKILL)


def _split(victim: str) -> tuple[str, int]:
    """Role and index from 0: ``gateway-2`` is ("gateway", 1)."""
    role, _, number = victim.partition("-")
    return role, int(number) - 1 if number else 0


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended by itself, with its gateway
