"""Hostile devices and second holders of keys: what they do, on the wire, with real credentials.

Place in the flow: ``fleet`` gives one to each member whose role in the plan asks for it; each begins after
some acks and uses links of its own or the member's. Rules kept: everything that is done is counted in the
journal when it is done; a second holder of a key connects under a client id of its own, so that it doesn't
throw the first one off (which MQTT would do, and which hides it).

| role        | does                                          | must become                                  |
|-------------|-----------------------------------------------|----------------------------------------------|
| EQUIVOCATED | other bytes under a name that was accepted    | equivocation, the device frozen              |
| FORKED      | a copy of the storage boots a second time     | forked_history or equivocation, frozen       |
| REPLAYER    | own old bytes again, there and at another     | duplicate, here or there: nothing paid twice |
|             | gateway; others', on their topic and its own  | dropped by the broker, by the gateway        |
| FLOODER     | garbage, wrong MACs, bad packs, repetitions   | malformed, bad_mac, over_quota; others go on |
"""

import secrets
from collections.abc import Callable
from functools import partial

from surge_cli.simulate.device import Identity, SimulatedDevice
from surge_cli.simulate.dialler import Address
from surge_cli.simulate.flash import Sealed
from surge_cli.simulate.link import Link
from surge_cli.simulate.member import Adversary, Member
from surge_cli.simulate.plan import Role
from surge_cli.simulate.stage import Stage, make_pack
from surge_wire.ack import decode_ack
from surge_wire.errors import DecodeError
from surge_wire.report import Report, seal_report
from surge_wire.topics import REPORT, topic

TWIN_TELLINGS = 3  # a second holder says it so often: it doesn't wait for acks that it can't tell apart
TWIN_EVERY_MS = 1_000
TWIN_INDEX = 1 << 30  # so that a twin's readings differ from those of the device
FLOOD_LEN = 600  # messages of one flood
FLOOD_CHUNK = 60  # written at once
FLOOD_EVERY_MS = 40
FLOOD_BOOT = 4_000_000_000  # no device gets there: a flood's names are never a device's own


class Intruder:
    """A link with somebody's credentials and a client id of its own: publishes what it is given, then
    leaves."""

    def __init__(
        self, stage: Stage, member: Member, address: Address, on_ready: Callable[[Link], bool]
    ) -> None:
        """``on_ready`` is called when the link is up, and each TWIN_EVERY_MS while it says True."""
        self._stage = stage
        self._on_ready = on_ready
        identity = member.device.identity
        self.take_ack: Callable[[bytes], None] = lambda _payload: None
        client_id = f"{identity.device_id}-{secrets.token_hex(4)}"
        self._link = Link(identity.device_id, identity.password(), self, client_id, announces=False)
        stage.dialler.dial(self._link, address)

    def on_up(self) -> None:
        """Begin."""
        self._stage.dialler.done(self._link)
        self._turn(self._stage.wheel.now_ms())

    def _turn(self, now_ms: int) -> None:
        if self._link.over:
            return
        if self._on_ready(self._link):
            self._stage.wheel.at(now_ms + TWIN_EVERY_MS, self._turn)
        else:
            self._link.goodbye()

    def on_ack(self, payload: bytes) -> None:
        """Whoever holds the credentials hears the acks too."""
        self.take_ack(payload)

    def on_command(self, payload: bytes) -> None:
        """Not executed."""

    def on_writable(self) -> None:
        """Little is written."""

    def on_down(self, reason: str, refused: bool) -> None:
        """Over; not tried again."""
        self._stage.dialler.done(self._link)
        if reason != "left":
            self._stage.journal.counts["intruder because: " + reason] += 1


def _other_address(member: Member) -> Address:
    """Another gateway's, where there is one and the plan says so."""
    stage = member.stage
    step = 1 if stage.plan.deed_elsewhere(member.index) else 0
    return stage.addresses[(member.home + step) % len(stage.addresses)]


class Equivocator:
    """Says something else under the name of a report that was acknowledged."""

    def __init__(self, after_acks: int) -> None:
        self._left = after_acks

    def on_ack(self, member: Member, _payload: bytes, covered: list[Sealed], _now_ms: int) -> None:
        """Wait for its moment."""
        if not covered or self._left <= 0 or member.stage.quiet:
            return
        self._left -= len(covered)
        if self._left > 0:
            return
        entry = covered[-1]
        identity = member.device.identity
        pack = make_pack(TWIN_INDEX + member.index, entry.seq)
        other = Report(entry.boot, entry.seq, 1, None, pack)
        envelope = seal_report(identity.device_id, identity.report_key, other)
        tellings = [TWIN_TELLINGS]

        def tell(link: Link) -> bool:
            if link.publish_report(envelope):
                member.stage.journal.counts["equivocations"] += 1
                member.stage.journal.cloned[identity.device_id] = Role.EQUIVOCATED.name.lower()
            tellings[0] -= 1
            return tellings[0] > 0

        Intruder(member.stage, member, _other_address(member), tell)


class Forker:
    """Copies the storage at one moment, and starts the copy when the device has gone on since."""

    def __init__(self, after_acks: int) -> None:
        self._left = after_acks
        self._twin: SimulatedDevice | None = None
        self._started = False

    def on_ack(self, member: Member, _payload: bytes, covered: list[Sealed], now_ms: int) -> None:
        """Wait for its moments."""
        if not covered or self._started:
            return
        if self._twin is not None:
            last = self._twin.flash.last
            if last is not None and covered[-1].name > last:
                self._started = True
                self._start(member, self._twin, now_ms)
            return
        self._left -= len(covered)
        if self._left <= 0 and not member.stage.quiet:
            self._twin = SimulatedDevice(member.device.identity, flash=member.device.flash.copy())

    def _start(self, member: Member, twin: SimulatedDevice, now_ms: int) -> None:
        stage = member.stage
        twin.start(now_ms)
        twin.take_reading(make_pack(TWIN_INDEX + member.index, 0), now_ms)
        twin.on_link(True)
        own = list(twin.flash.sealed.values())[-1]
        tellings = [TWIN_TELLINGS]

        def tell(link: Link) -> bool:
            for entry in list(twin.flash.sealed.values()):
                if link.publish_report(entry.envelope) and entry is own:
                    stage.journal.counts["forks"] += 1
                    stage.journal.cloned[twin.identity.device_id] = Role.FORKED.name.lower()
            tellings[0] -= 1
            return tellings[0] > 0

        def take_ack(payload: bytes) -> None:
            for entry in twin.on_ack(payload, stage.wheel.now_ms()):
                stage.journal.acknowledged((twin.identity.device_id, entry.boot, entry.seq))

        Intruder(stage, member, _other_address(member), tell).take_ack = take_ack


class Replayer:
    """Sends old bytes again, and another device's."""

    def __init__(self, every_acks: int) -> None:
        self._every = every_acks
        self._acked = 0

    def on_ack(self, member: Member, _payload: bytes, covered: list[Sealed], _now_ms: int) -> None:
        """Each so many acknowledged reports."""
        stage, link = member.stage, member.link
        if not covered or stage.quiet or link is None:
            return
        before, self._acked = self._acked, self._acked + len(covered)
        if before // self._every == self._acked // self._every:
            return
        counts, old = stage.journal.counts, covered[0].envelope
        if link.publish_report(old):
            counts["replays"] += 1
        if len(stage.addresses) > 1:
            elsewhere = stage.addresses[(member.home + 1) % len(stage.addresses)]
            Intruder(stage, member, elsewhere, partial(self._replay_elsewhere, stage, old))
        if stage.stolen:  # what its maker lost before it was sent: it arrives only if a thief gets it through
            victim_id, stolen = stage.stolen.popleft()
            if victim_id != member.device.identity.device_id:
                if link.publish_raw(topic(victim_id, REPORT), stolen):
                    counts["replays_on_foreign_topics"] += 1
                if link.publish_report(stolen):
                    counts["replays_in_foreign_names"] += 1

    @staticmethod
    def _replay_elsewhere(stage: Stage, old: bytes, link: Link) -> bool:
        if link.publish_report(old):
            stage.journal.counts["replays_elsewhere"] += 1
        return False


class Flooder:
    """Sends FLOOD_LEN messages as fast as its link takes them, each time that so many of its reports were
    acknowledged."""

    def __init__(self, every_acks: int) -> None:
        self._every = every_acks
        self._acked = 0
        self._numbers = 0

    def on_ack(self, member: Member, payload: bytes, covered: list[Sealed], now_ms: int) -> None:
        """Flood, and note which of its rubbish a gateway took."""
        stage = member.stage
        try:
            ack = decode_ack(payload)
        except DecodeError:
            return
        if ack.boot == FLOOD_BOOT:
            for first, last in ack.ranges:
                for seq in range(first, last + 1):
                    stage.journal.acknowledged((member.device.identity.device_id, FLOOD_BOOT, seq))
        if not covered or stage.quiet:
            return
        before, self._acked = self._acked, self._acked + len(covered)
        if before // self._every != self._acked // self._every:
            stage.journal.counts["floods"] += 1
            self._pour(member, FLOOD_LEN, covered[-1].envelope, now_ms)

    def _pour(self, member: Member, left: int, old: bytes, now_ms: int) -> None:
        link, stage = member.link, member.stage
        if link is None or not link.up or stage.quiet:
            return
        if link.writable:
            for _ in range(min(left, FLOOD_CHUNK)):
                kind, message = make_rubbish(member.device.identity, member.index, self._numbers, old)
                self._numbers += 1
                if link.publish_report(message):
                    stage.journal.counts["flood_" + kind] += 1
            left -= FLOOD_CHUNK
        if left > 0:
            stage.wheel.at(now_ms + FLOOD_EVERY_MS, partial(self._pour, member, left, old))


def make_rubbish(identity: Identity, index: int, number: int, old: bytes) -> tuple[str, bytes]:
    """The ``number``-th message of a flood of the device ``index``, and what it is; ``old`` is a report that
    it sent before."""
    turn = number % 4
    if turn == 0:
        return "garbage", old[: number % len(old)]
    if turn == 1:
        report = Report(FLOOD_BOOT, number, 1, None, make_pack(index, number))
        return "bad_mac", seal_report(identity.device_id, bytes(len(identity.report_key)), report)
    if turn == 2:
        bad = Report(FLOOD_BOOT + 1, number, 1, None, [{0: "nothing measured"}])
        return "bad_pack", seal_report(identity.device_id, identity.report_key, bad)
    return "repetition", old


def make_adversary(role: Role, after_acks: int) -> Adversary | None:
    """What a device of ``role`` does beside its work; None for an honest one."""
    makers: dict[Role, Callable[[int], Adversary]] = {
        Role.EQUIVOCATED: Equivocator,
        Role.FORKED: Forker,
        Role.REPLAYER: Replayer,
        Role.FLOODER: Flooder,
    }
    maker = makers.get(role)
    return None if maker is None else maker(after_acks)
