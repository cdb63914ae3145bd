"""Threat 5 on the device as a whole: whatever operation the power goes at, no (boot, seq) has other bytes."""

from collections.abc import Sequence

import pytest
from device_world import DEVICE, NOON_MS, SECRET, SMALL, CommandsDouble, Lines, NoBoard, open_checked
from power_storage import PowerCut, PowerStorage

from surge_device.boot import begin_boot
from surge_device.clock import SOURCE_ACK, Clock
from surge_device.errors import OutboxFull
from surge_device.identity import FLOOR_FILE, Identity
from surge_device.meter import Meter
from surge_device.outbox import Outbox
from surge_device.sealer import Sealer
from surge_wire.senml import make_record


class Flash:
    """One device's flash over its lives, and everything that ever left the device."""

    def __init__(self, seed: int) -> None:
        self.storage = PowerStorage(seed)
        self.storage.path = "data"
        self.storage.write_durably(FLOOR_FILE, b'{"boot": 0, "command": 0}')
        self.wire: dict[tuple[int, int], bytes] = {}
        self.reading = 0

    def lose_power(self, power_lost: bool = True) -> None:
        self.storage = self.storage.restart(power_lost)
        self.storage.path = "data"

    def live(self, readings: int, cut_in: int | None = None) -> bool:
        """A life of the device, cut at its ``cut_in``-th file operation; whether it came to its own end."""
        self.storage.cut_at = None if cut_in is None else self.storage.steps + cut_in
        try:
            self._live(readings)
        except PowerCut:
            return False
        finally:
            self.storage.cut_at = None
        return True

    def _live(self, readings: int) -> None:
        ticks = 0
        clock = Clock(lambda: ticks, lambda end, start: end - start)
        identity = Identity(DEVICE, SECRET, self.storage)
        outbox = Outbox(self.storage, SMALL)
        outbox.load()
        assert not outbox.damaged, "a power cut counted as damage"
        boot, previous_end = begin_boot(identity, outbox)
        commands = CommandsDouble()
        sealer = Sealer(
            identity, boot, previous_end, outbox, Meter(NoBoard(), clock), clock, commands, Lines()
        )
        for count in range(readings):
            ticks += 1000
            self.reading += 1
            try:
                sealer.add_reading([make_record("value", "", self.reading), make_record("t", "", "x" * 250)])
            except OutboxFull:
                pass
            sealer.seal_waiting()
            self.send(outbox)
            if count % 5 == 4:
                clock.set_unix_ms(NOON_MS + ticks, SOURCE_ACK)
                outbox.ack(boot, [[0, sealer.seq - 2]])
                for earlier in range(1, boot):
                    outbox.ack(earlier, [[0, 1 << 30]])

    def send(self, outbox: Outbox) -> None:
        for boot, seq, envelope in outbox.unacked():
            assert self.wire.setdefault((boot, seq), envelope) == envelope, f"other bytes under {(boot, seq)}"

    def check(self) -> None:
        """What anybody who saw the wire can say."""
        reports = {name: open_checked(envelope) for name, envelope in self.wire.items()}
        for (boot, seq), report in reports.items():
            assert (report.boot, report.seq) == (boot, seq)
            if seq:
                assert (boot, seq - 1) in reports, "a hole"
                assert report.previous_end is None
            elif report.previous_end is not None:
                assert (boot - 1, report.previous_end) not in reports, "past the end that the device declared"
                assert report.previous_end == 0 or (boot - 1, report.previous_end - 1) in reports


def lives_cut_in_turn(readings: int, restarts: Sequence[bool], seed: int) -> int:
    """A second life that is cut at its first operation, at its second, and so on to its own end."""
    cut = 0
    while True:
        cut += 1
        flash = Flash(seed + cut)
        assert flash.live(7)
        flash.lose_power()
        whole = flash.live(readings, cut)
        for power_lost in restarts:
            flash.lose_power(power_lost)
            assert flash.live(3)
        flash.lose_power()
        assert flash.live(7)
        flash.check()
        if whole:
            return cut


@pytest.mark.threat(5)
@pytest.mark.parametrize("restarts", [[True], [False, True], [True, True], [False, False]])
def test_every_operation_of_a_life_is_cut_in_turn(restarts: list[bool]) -> None:
    assert lives_cut_in_turn(12, restarts, seed=1000 * len(restarts) + restarts[0]) > 40


@pytest.mark.threat(5)
def test_every_operation_of_a_start_is_cut_in_turn_and_then_of_the_start_after_it() -> None:
    cut = 0
    whole = False
    while not whole:
        cut += 1
        again = 0
        second_whole = False
        while not second_whole:
            again += 1
            flash = Flash(10_000 * cut + again)
            assert flash.live(4)
            flash.lose_power()
            whole = flash.live(1, cut)
            flash.lose_power()
            second_whole = flash.live(1, again)
            flash.lose_power()
            assert flash.live(5)
            flash.check()
    assert cut > 5


@pytest.mark.threat(5)
@pytest.mark.parametrize("seed", range(40))
def test_many_lives_with_cuts_at_random(seed: int) -> None:
    flash = Flash(seed)
    for _ in range(25):
        random = flash.storage.random
        flash.live(random.randrange(20), random.randrange(1, 120))
        flash.lose_power(random.random() < 0.8)
    assert flash.live(10)
    flash.check()
    assert len({boot for boot, _ in flash.wire}) > 5
    assert len(flash.wire) > 20
