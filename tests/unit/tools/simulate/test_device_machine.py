"""The pure device against a model of a gateway, under any order of readings, links, losses, acks, cuts."""

from typing import Any

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from surge_cli.simulate.clocks import Skew
from surge_cli.simulate.device import RETRY_MAX_MS, SimulatedDevice, make_identity
from surge_cli.simulate.flash import IN_FLIGHT_MAX, WAITING_MAX, Sealed
from surge_wire.ack import Ack, encode_ack
from surge_wire.ids import DEVICE, make_id
from surge_wire.report import Report, decode_report, open_report
from surge_wire.senml import make_record

IDENTITY = make_identity(make_id(DEVICE, bytes(10)), bytes(range(32)))
NOON_MS = 1_790_000_000_000


def pack(number: int) -> list[dict[int, Any]]:
    return [make_record("value", "", number)]


def read(envelope: bytes) -> Report:
    device_id, opened = open_report(envelope)
    assert device_id == IDENTITY.device_id
    return decode_report(opened.payload)


class DeviceMachine(RuleBasedStateMachine):
    """``spent`` is every name ever given out; ``wire`` what reached the gateway; ``known`` what it has."""

    @initialize(skew=strategies.sampled_from(Skew))
    def begin(self, skew: Skew) -> None:
        self.device = SimulatedDevice(IDENTITY, skew)
        self.now_ms = 1_000
        self.readings = 0
        self.thinned = 0
        self.spent: dict[tuple[int, int], bytes] = {}
        self.in_boot: dict[int, int] = {}  # boot -> how many it sealed
        self.known: dict[tuple[int, int], bytes] = {}
        self.told: set[tuple[int, int]] = set()  # acks that the device heard
        self.lost: set[tuple[int, int]] = set()
        self.device.start(self.now_ms)

    def note(self, made: list[Sealed]) -> None:
        for entry in made:
            assert entry.name not in self.spent, "a name was given out twice"
            assert entry.boot == self.device.boot
            assert entry.seq == self.in_boot.get(entry.boot, 0), "a hole in seq"
            self.in_boot[entry.boot] = entry.seq + 1
            report = read(entry.envelope)
            assert (report.boot, report.seq) == entry.name
            if entry.seq == 0:
                assert report.usage is not None
            if report.usage is not None:
                assert report.usage.reports == entry.seq  # all sealed in this boot before it
            if report.previous_end is not None:
                assert report.previous_end == self.in_boot.get(entry.boot - 1, 0)
            elif entry.seq == 0 and entry.boot > 1 and self.in_boot.keys() - {entry.boot}:
                assert self.lost, "the end of the boot before was known and not stated"
            self.spent[entry.name] = entry.envelope

    @rule(later_ms=strategies.integers(0, 2 * RETRY_MAX_MS))
    def time_passes(self, later_ms: int) -> None:
        self.now_ms += later_ms

    @rule(count=strategies.integers(1, 40))
    def take_readings(self, count: int) -> None:
        for _ in range(count):
            self.readings += 1
            made, thinned = self.device.take_reading(pack(self.readings), self.now_ms)
            self.thinned += thinned
            self.note(made)

    @rule(up=strategies.booleans())
    def link_changes(self, up: bool) -> None:
        self.device.on_link(up)
        if up:  # all that waits is sent again at once, oldest first, the same bytes
            entries = self.device.due(self.now_ms)
            assert [entry.name for entry in entries] == sorted(self.device.flash.sealed)

    @rule(data=strategies.data())
    def publish(self, data: strategies.DataObject) -> None:
        entries = self.device.due(self.now_ms)
        for entry in entries:
            assert self.spent[entry.name] == entry.envelope, "other bytes under a name"
            if data.draw(strategies.booleans(), label="arrives"):
                self.known[entry.name] = entry.envelope
        assert not self.device.due(self.now_ms), "due twice at once"
        if self.device.flash.sealed and self.device.retry_at_ms is not None:
            assert self.now_ms < self.device.retry_at_ms <= self.now_ms + RETRY_MAX_MS

    @precondition(lambda self: self.known)
    @rule(data=strategies.data())
    def acknowledge(self, data: strategies.DataObject) -> None:
        boot = data.draw(strategies.sampled_from(sorted({name[0] for name in self.known})), label="boot")
        seqs = sorted(seq for known_boot, seq in self.known if known_boot == boot)
        chosen = data.draw(strategies.lists(strategies.sampled_from(seqs), min_size=1, max_size=16))
        ranges = [(seq, seq) for seq in sorted(set(chosen)) if seq - 1 not in chosen]
        before = set(self.device.flash.sealed)
        covered = self.device.on_ack(encode_ack(Ack(boot, ranges, NOON_MS)), self.now_ms)
        named = {(boot, seq) for seq, _ in ranges}
        assert {entry.name for entry in covered} == before & named, "an ack deletes exactly what it covers"
        assert set(self.device.flash.sealed) == before - named
        self.told |= named
        self.note(self.device.seal_waiting(self.now_ms))

    @rule(junk=strategies.binary(max_size=300))
    def hear_junk(self, junk: bytes) -> None:
        before = set(self.device.flash.sealed)
        self.device.on_ack(junk, self.now_ms)
        self.device.on_command(junk, self.now_ms)
        assert set(self.device.flash.sealed) <= before

    @rule(acks_survive=strategies.booleans())
    def cut_power(self, acks_survive: bool) -> None:
        boot = self.device.boot
        sealed = set(self.device.flash.sealed)
        self.device.power_cut(self.now_ms, acks_survive)
        assert self.device.boot == boot + 1
        back = set(self.device.flash.sealed)
        assert sealed <= back, "the outbox survives"
        assert back - sealed <= self.told, "only what was acknowledged may come back"
        assert acks_survive <= (back == sealed)
        self.note(self.device.seal_waiting(self.now_ms))

    @precondition(lambda self: self.device.flash.sealed)
    @rule(data=strategies.data())
    def damage(self, data: strategies.DataObject) -> None:
        name = data.draw(strategies.sampled_from(sorted(self.device.flash.sealed)))
        assert self.device.flash.damage(name)
        assert name not in self.device.flash.sealed
        self.lost.add(name)

    @invariant()
    def nothing_is_lost_or_beyond_the_limits(self) -> None:
        if not hasattr(self, "device"):
            return
        flash = self.device.flash
        assert len(flash.waiting) <= WAITING_MAX
        assert list(flash.sealed) == sorted(flash.sealed)
        assert self.readings == len(self.spent) + len(flash.waiting) + self.thinned
        for name in self.spent:
            assert name in flash.sealed or name in self.told or name in self.lost

    @invariant()
    def sealing_keeps_to_the_window(self) -> None:
        # What comes back after a cut can lie above the window; nothing is sealed into a full one.
        if hasattr(self, "device") and len(self.device.flash.sealed) >= IN_FLIGHT_MAX:
            assert not self.device.flash.window_open
            assert self.device.seal_waiting(self.now_ms) == []


DeviceMachine.TestCase.settings = settings(stateful_step_count=40, max_examples=60)
TestDeviceMachine = DeviceMachine.TestCase
