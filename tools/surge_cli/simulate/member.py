"""One device of the fleet: the pure device, its link, and everything that the plan does to it.

Place in the flow: ``fleet`` makes thousands of these; ``device`` decides what to send, ``link`` sends it.
Between them stands the bad network: publishes and acks are lost, doubled and held back here, as the plan
says, until the fleet falls quiet. Rules kept: what is counted has happened (``sent`` counts bytes given to
a socket, ``withheld`` what the plan kept from one); a broken link is dialled again with the firmware's
jittered, doubling, capped pauses.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from surge_cli.simulate.device import SimulatedDevice
from surge_cli.simulate.flash import Sealed
from surge_cli.simulate.link import KEEP_ALIVE_S, Link
from surge_cli.simulate.stage import Stage, make_pack
from surge_wire import command

STABLE_MS = 30_000  # a link that lived this long starts the back-off anew


class Adversary(Protocol):
    """What a hostile device does beside its work."""

    def on_ack(self, member: "Member", payload: bytes, covered: list[Sealed], now_ms: int) -> None:
        """An ack came; ``covered`` waited for it."""


class Member:
    """One device. ``adversary`` hears of its acks and acts; ``on_connected`` and ``on_drained`` are called
    once: when the link is up, when the outbox is empty."""

    __slots__ = (
        "_acks",
        "_connected_ms",
        "_failures",
        "_next_reading_ms",
        "_readings",
        "_retry_set_ms",
        "_taking",
        "_was_up",
        "adversary",
        "device",
        "home",
        "index",
        "interval_ms",
        "link",
        "on_connected",
        "on_drained",
        "stage",
    )

    def __init__(self, stage: Stage, index: int, device: SimulatedDevice) -> None:
        self.stage = stage
        self.index = index
        self.device = device
        self.home = index % len(stage.addresses)
        self.interval_ms = stage.interval_ms
        self.link: Link | None = None
        self.adversary: Adversary | None = None
        self.on_connected: Callable[[Member], None] | None = None
        self.on_drained: Callable[[Member], None] | None = None
        self._acks = 0
        self._connected_ms = 0
        self._failures = 0
        self._next_reading_ms = 0.0
        self._readings = 0
        self._retry_set_ms = 0
        self._taking = False
        self._was_up = False

    # --- the link --------------------------------------------------------------------------------------

    def begin(self, now_ms: int) -> None:
        """Start the device and connect it."""
        self.device.start(now_ms)
        self._dial(now_ms)

    def _dial(self, _now_ms: int) -> None:
        stage = self.stage
        if stage.ended or self.link is not None:
            return
        identity = self.device.identity
        self.link = Link(identity.device_id, identity.password(), self)
        stage.dialler.dial(self.link, stage.addresses[self.home])

    def on_up(self) -> None:
        """The link works: what waits is sent."""
        stage, link = self.stage, self.link
        if link is None:
            return
        now_ms = stage.wheel.now_ms()
        stage.dialler.done(link)
        stage.online += 1
        stage.journal.counts["connected"] += 1
        self._was_up = True
        self._connected_ms = now_ms
        self.device.on_link(True)
        if self.on_connected is not None:
            tell, self.on_connected = self.on_connected, None
            tell(self)
        stage.wheel.at(now_ms + KEEP_ALIVE_S * 500, partial(self._keep_alive, link))
        self._send_due(now_ms)

    def _keep_alive(self, link: Link, now_ms: int) -> None:
        if link is self.link and not link.over:
            link.keep_alive()
            if not link.over:
                self.stage.wheel.at(now_ms + KEEP_ALIVE_S * 500, partial(self._keep_alive, link))

    def on_down(self, reason: str, refused: bool) -> None:
        """The link is over; another follows."""
        stage, link = self.stage, self.link
        self.link = None
        if link is not None:
            stage.dialler.done(link)
        self.device.on_link(False)
        was_up, self._was_up = self._was_up, False
        stage.online -= was_up
        if stage.ended:
            return
        stage.journal.counts["disconnected" if was_up else "connect_failed"] += 1
        now_ms = stage.wheel.now_ms()
        if self._connected_ms and now_ms - self._connected_ms >= STABLE_MS:
            self._failures = 0
        self._connected_ms = 0
        self._failures += 1
        stage.journal.counts["because: " + reason] += 1
        stage.wheel.at(now_ms + self._pause_ms(refused), self._dial)

    def _pause_ms(self, refused: bool) -> int:
        pace, chance = self.stage.pace, self.stage.random.random()
        cap = pace.refused_cap_ms if refused else pace.cap_ms
        ceiling = min(cap, pace.base_ms << min(self._failures - 1, 20))
        return ceiling // 2 + int(chance * (ceiling // 2)) if refused else int(chance * ceiling)

    def on_writable(self) -> None:
        """The transport has room again."""
        self._send_due(self.stage.wheel.now_ms())

    # --- readings --------------------------------------------------------------------------------------

    def take_readings(self, now_ms: int) -> None:
        """From now on take a reading every ``interval_ms``."""
        if not self._taking:
            self._taking = True
            self._next_reading_ms = now_ms + self.stage.plan.phase(self.index) * self.interval_ms
            self.stage.wheel.at(int(self._next_reading_ms), self._on_reading_time)

    def _on_reading_time(self, now_ms: int) -> None:
        stage = self.stage
        if stage.quiet or stage.ended or stage.readings_left == 0:
            self._taking = False
            return
        if stage.readings_left is not None:
            stage.readings_left -= 1
            if not stage.readings_left:
                stage.exhausted.set()
        self._next_reading_ms += self.interval_ms
        behind = int((now_ms - self._next_reading_ms) / self.interval_ms)
        if behind > 0:  # this machine doesn't keep up: left out and counted, not made up for in a burst
            stage.journal.counts["readings_left_out"] += behind
            self._next_reading_ms += behind * self.interval_ms
        stage.wheel.at(int(self._next_reading_ms), self._on_reading_time)
        self.take_reading(now_ms)
        if stage.plan.cuts_power(self.index, self._readings):
            self.power_cut(now_ms)

    def take_reading(self, now_ms: int) -> None:
        """Take one reading now."""
        journal = self.stage.journal
        self._readings += 1
        journal.counts["readings"] += 1
        sealed, thinned = self.device.take_reading(make_pack(self.index, self._readings), now_ms)
        journal.counts["thinned"] += thinned
        self._note_sealed(sealed)
        self._send_due(now_ms)

    def power_cut(self, now_ms: int | None = None) -> None:
        """Cut the power: the link breaks, RAM is lost, the next boot begins."""
        stage = self.stage
        if now_ms is None:
            now_ms = stage.wheel.now_ms()
        stage.journal.counts["power_cuts"] += 1
        self.device.power_cut(now_ms, stage.plan.acks_survive(self.index, self._readings))
        self._failures = 0  # only RAM knew them
        if self.link is not None:
            self.link.abort()  # on_down dials again
        self._note_sealed(self.device.seal_waiting(now_ms))

    def _note_sealed(self, made: list[Sealed]) -> None:
        stage = self.stage
        device_id = self.device.identity.device_id
        for entry in made:
            name = (device_id, entry.boot, entry.seq)
            stage.journal.sealed(name, entry.samples, len(entry.envelope), entry.taken_ms)
            if not stage.quiet and stage.plan.damages(self.index, entry.boot, entry.seq):
                self.device.flash.damage(entry.name)
                stage.journal.lost_for_ever(name, entry.samples, len(entry.envelope))
                stage.stolen.append((device_id, entry.envelope))

    # --- the bad network -------------------------------------------------------------------------------

    def _send_due(self, now_ms: int) -> None:
        link = self.link
        if link is None or not link.up or not link.writable:
            return
        for entry in self.device.due(now_ms):
            self._send(link, entry, now_ms)
        retry_ms = self.device.retry_at_ms
        if retry_ms is not None and not now_ms < self._retry_set_ms <= retry_ms:
            self._retry_set_ms = retry_ms
            self.stage.wheel.at(retry_ms, self._on_retry_time)

    def _on_retry_time(self, now_ms: int) -> None:
        if now_ms >= self._retry_set_ms:
            self._retry_set_ms = 0
        self._send_due(now_ms)

    def _send(self, link: Link, entry: Sealed, now_ms: int) -> None:
        stage = self.stage
        counts = stage.journal.counts
        if entry.attempts > 1:
            counts["sent_again"] += 1
        if not stage.quiet:
            plan, about = stage.plan, (self.index, entry.boot, entry.seq, entry.attempts)
            if plan.loses(*about):
                counts["withheld"] += 1
                return
            if plan.duplicates(*about) and link.publish_report(entry.envelope):
                counts["sent"] += 1
                counts["doubled"] += 1
            delay_ms = plan.delay_ms(*about)
            if delay_ms:
                counts["held_back"] += 1
                stage.wheel.at(now_ms + delay_ms, partial(self._send_late, link, entry.envelope))
                return
        if link.publish_report(entry.envelope):
            counts["sent"] += 1

    def _send_late(self, link: Link, envelope: bytes, _now_ms: int) -> None:
        if link.publish_report(envelope):
            self.stage.journal.counts["sent"] += 1

    def on_ack(self, payload: bytes) -> None:
        """An ack from the gateway, unless it gets lost."""
        stage = self.stage
        now_ms = stage.wheel.now_ms()
        self._acks += 1
        stage.journal.counts["acks"] += 1
        if not stage.quiet and stage.plan.loses_ack(self.index, self._acks):
            stage.journal.counts["acks_withheld"] += 1
            return
        device = self.device
        covered = device.on_ack(payload, now_ms)
        device_id = device.identity.device_id
        for entry in covered:
            stage.journal.acknowledged((device_id, entry.boot, entry.seq), entry.taken_ms, now_ms)
        if covered:
            if device.flash.waiting:
                self._note_sealed(device.seal_waiting(now_ms))
            self._send_due(now_ms)
        if self.adversary is not None:
            self.adversary.on_ack(self, payload, covered, now_ms)
        if self.on_drained is not None and device.empty:
            tell, self.on_drained = self.on_drained, None
            tell(self)

    def on_command(self, payload: bytes) -> None:
        """A command of the backend: executed as the firmware does."""
        now_ms = self.stage.wheel.now_ms()
        done = self.device.on_command(payload, now_ms)
        if done is None:
            self.stage.journal.counts["commands_not_executed"] += 1
            return
        self.stage.journal.counts["commands_executed"] += 1
        if done.interval_ms is not None:
            self.interval_ms = done.interval_ms
        elif done.operation == command.RESTART:
            self.power_cut(now_ms)
        elif not self.stage.quiet:
            self.take_reading(now_ms)
