"""Thousands of simulated devices in one process, on real brokers.

Place in the flow: ``surge simulate``, the chaos tests and the benches make one. It owns the members, the
timer and the dialler, and nothing of the network that they connect to. Does not judge (``books``). Rules
kept: every wait is for an event and bounded by its caller's time-out; what a callback raises ends the run.

How to use it (``enrolment`` makes identities, ``surge_cli.demo.parts`` a network)::

    journal = Journal()
    plan = Plan(seed=7, devices=len(identities), wrongs=HOSTILE)
    async with Fleet(identities, [Address("127.0.0.1", 1883)], plan, journal, interval_ms=1000) as fleet:
        await fleet.connect(timeout_s=60)     # every device has been connected once
        fleet.take_readings()                 # from now on; at all times: fleet.members[3].power_cut()
        await asyncio.sleep(30)               # whatever ends the run
        left = await fleet.drain(timeout_s=120)   # quiet: no reading, nothing goes wrong; until all is acked
    sorted(journal.acknowledged_names())      # (device, boot, seq), each once

``journal.on_sealed`` and ``journal.on_acknowledged`` are called as it happens, with times on
``fleet.now_ms()``'s clock. A broker, gateway or backend may be killed at any time: devices dial again after
the pauses of ``pace``.
"""

import asyncio
import random
import resource
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from surge_cli.simulate.adversaries import make_adversary
from surge_cli.simulate.device import Identity, SimulatedDevice
from surge_cli.simulate.dialler import Address, Dialler
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.member import Member
from surge_cli.simulate.plan import Plan
from surge_cli.simulate.stage import Pace, Stage
from surge_cli.simulate.wheel import Wheel
from surge_host.errors import UserError

DESCRIPTORS_BESIDE = 200  # of this process: logs, children, intruders' links


class Fleet:
    """``identities[i]`` is the device of index i in ``plan``; device i's home is address i modulo their
    number."""

    def __init__(
        self,
        identities: Sequence[Identity],
        addresses: Sequence[Address],
        plan: Plan,
        journal: Journal,
        *,
        interval_ms: float = 1_000,
        readings_max: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        if len(identities) != plan.devices:
            raise ValueError(f"{len(identities)} identities for a plan of {plan.devices}")
        if not addresses:
            raise ValueError("a fleet needs at least one broker")
        raise_descriptor_limit(len(identities))
        self.plan = plan
        self.journal = journal
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()
        wheel = Wheel(self.fail)
        self.stage = Stage(
            wheel,
            Dialler(wheel),
            plan,
            journal,
            tuple(addresses),
            interval_ms,
            pace or Pace(),
            random.Random(plan.seed),
            readings_max,
        )
        self.members = [self._member(index, identity) for index, identity in enumerate(identities)]
        self._waiting: set[Member] = set()

    def _member(self, index: int, identity: Identity) -> Member:
        member = Member(self.stage, index, SimulatedDevice(identity, self.plan.skew(index)))
        member.adversary = make_adversary(self.plan.role(index), self.plan.deed_after_acks(index))
        return member

    def fail(self, error: BaseException) -> None:
        """End every wait of this fleet with ``error``."""
        self._failure = error
        self._changed.set()
        self.stage.exhausted.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- what a run is made of -------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The fleet's clock: milliseconds since it was made."""
        return self.stage.wheel.now_ms()

    @property
    def online(self) -> int:
        """How many devices are connected now."""
        return self.stage.online

    def check(self) -> None:
        """Raise what ended the fleet: a part of the network that died, or a bug in a callback."""
        if isinstance(self._failure, UserError):
            raise self._failure
        if self._failure is not None:
            raise RuntimeError("the fleet failed") from self._failure

    async def connect(self, timeout_s: float) -> None:
        """Start all devices; returns when each has been connected once. Raises UserError at the time-out."""
        now_ms = self.now_ms()
        self._waiting = set(self.members)
        for member in self.members:
            member.on_connected = self._settled
            member.begin(now_ms)
        await self._until_settled(timeout_s)
        if self._waiting:
            reasons = [text for text in self.journal.counts if text.startswith("because: ")]
            raise UserError(
                f"{len(self._waiting)} of {len(self.members)} devices were not let in within {timeout_s:g} s",
                ", ".join(sorted({f"{one.host}:{one.port}" for one in self.stage.addresses})),
                f"look at the gateways' logs; reasons so far: {'; '.join(reasons[:5]) or 'none given'}",
            )

    def take_readings(self) -> None:
        """From now on every device takes readings."""
        now_ms = self.now_ms()
        for member in self.members:
            member.take_readings(now_ms)

    async def exhausted(self) -> None:
        """Until ``readings_max`` readings are taken; without that, for ever."""
        await self.stage.exhausted.wait()
        self.check()

    async def drain(self, timeout_s: float) -> int:
        """Fall quiet and wait until every outbox is empty; returns how many devices' are not."""
        self.stage.quiet = True
        self._waiting = {member for member in self.members if not member.device.empty}
        for member in self._waiting:
            member.on_drained = self._settled
        await self._until_settled(timeout_s)
        return len(self._waiting)

    def _settled(self, member: Member) -> None:
        self._waiting.discard(member)
        if not self._waiting:
            self._changed.set()

    async def _until_settled(self, timeout_s: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                while self._waiting:
                    self.check()
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            pass  # the caller says what is left
        self.check()

    async def close(self) -> None:
        """Every device says goodbye; whatever is left is closed."""
        self.stage.ended = True
        for member in self.members:
            if member.link is not None:
                member.link.goodbye()
        await self.stage.dialler.close()
        self.stage.wheel.close()
        await asyncio.sleep(0)  # transports close on the loop's next turns
        self.check()


def raise_descriptor_limit(devices: int) -> None:
    """Allow this process as many open files as the system lets it. Raises UserError where that is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = devices + DESCRIPTORS_BESIDE
    if soft < needed and hard != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft != resource.RLIM_INFINITY and soft < needed:
        raise UserError(
            f"{devices} connections need {needed} open files, and this process may have {soft}",
            "ulimit -Hn",
            f"choose at most {soft - DESCRIPTORS_BESIDE} devices, or raise the limit (LimitNOFILE=, or"
            " /etc/security/limits.conf)",
        )
