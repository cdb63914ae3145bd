"""One simulation from beginning to end: connect, run, fall quiet, settle.

Place in the flow: between ``command``, which reads options and shows, and ``fleet`` and ``site``, which do.
Does not judge. Rules kept: what stops a run (time, a number of reports, a signal) stops readings first; then
outboxes are emptied, then batches are waited for, each within a generous bound; nothing is reported but what
the journal, the gateways and the backend say.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from surge_cli.simulate.fleet import Fleet
from surge_cli.simulate.progress import Progress, take_progress

SHOW_EVERY_S = 1.0
DRAIN_S = 180.0  # longer than two of the longest pauses of a device
SETTLE_S = 120.0
S_PER_THOUSAND_DEVICES = 20.0  # and so much more of each wait, for each thousand devices

Show = Callable[[Progress], None]
Stats = Callable[[], Awaitable[dict[str, object]]]


@dataclass(frozen=True)
class Ending:
    """What a run came to: devices whose outboxes weren't empty, and how long its parts took."""

    undrained: int
    connect_s: float
    run_s: float
    drain_s: float
    cpu_s: float  # of this process, while it ran
    sealed_per_s: float


class Run:
    """``stats`` asks the backend; ``check`` raises where a part of the network has ended."""

    def __init__(self, fleet: Fleet, show: Show, stats: Stats, check: Callable[[], None]) -> None:
        self.fleet = fleet
        self._show = show
        self._stats = stats
        self._check = check
        self._phase = "connecting"
        self._end_s: float | None = None
        self._last = (time.monotonic(), 0)

    async def until(self, stop: asyncio.Event, seconds: float | None) -> Ending:
        """Run until ``stop``, or ``seconds``, or until no reading is left to take."""
        fleet = self.fleet
        extra_s = len(fleet.members) / 1000 * S_PER_THOUSAND_DEVICES
        showing = asyncio.create_task(self._keep_showing(stop), name="progress")
        try:
            began_s = time.monotonic()
            await fleet.connect(DRAIN_S + extra_s)
            connected_s = time.monotonic()
            self._phase, cpu_s, sealed = "running", time.process_time(), fleet.journal.counts["sealed"]
            self._end_s = None if seconds is None else connected_s + seconds
            fleet.take_readings()
            await self._wait(stop, seconds)
            ran_s = time.monotonic() - connected_s
            cpu_s = time.process_time() - cpu_s
            sealed = fleet.journal.counts["sealed"] - sealed
            self._phase, self._end_s = "emptying the outboxes", None
            drain_began_s = time.monotonic()
            undrained = await fleet.drain(DRAIN_S + extra_s)
            drained_s = time.monotonic() - drain_began_s
            return Ending(undrained, connected_s - began_s, ran_s, drained_s, cpu_s, sealed / ran_s)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)

    async def _wait(self, stop: asyncio.Event, seconds: float | None) -> None:
        waits = [
            asyncio.create_task(stop.wait(), name="stop"),
            asyncio.create_task(self.fleet.exhausted(), name="readings"),
        ]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _keep_showing(self, stop: asyncio.Event) -> None:
        """Once a second; a part that has ended ends the run, which then says why."""
        while True:
            await asyncio.sleep(SHOW_EVERY_S)
            try:
                self._check()
            except Exception as error:
                self.fleet.fail(error)
                stop.set()
                raise
            self._show(await self.progress())

    async def progress(self) -> Progress:
        """How it is now."""
        fleet = self.fleet
        now_s, sealed = time.monotonic(), fleet.journal.counts["sealed"]
        before_s, before = self._last
        self._last = (now_s, sealed)
        left = "" if self._end_s is None else f"{max(0.0, self._end_s - now_s):.0f} s left"
        return take_progress(
            self._phase,
            left,
            fleet.journal,
            len(fleet.members),
            fleet.online,
            (sealed - before) / max(1e-9, now_s - before_s),
            await self._stats(),
        )
