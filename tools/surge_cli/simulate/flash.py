"""What a simulated device keeps through a power cut: boot number, outbox, the last command's counter.

Place in the flow: under ``device``, as ``surge_device``'s outbox and identity are under its sealer.
Pure. Does not simulate a file system that fails: the firmware's own tests cut its outbox at every write.
Rules kept, as in the firmware: sealed entries go only by an ack (or by the damage that a test asks for);
waiting readings are thinned when there are too many, every second one of the older half, and counted; an
ack is not synced by itself, so that a power cut may bring back what was acknowledged since the last durable
write, which is then sent once more.
"""

from typing import Any

IN_FLIGHT_MAX = 16  # sealed and unacknowledged, those of earlier boots included
WAITING_MAX = 256  # readings not sealed yet; at the limit they are thinned


class Reading:
    """A reading that waits to be sealed. Times are the device's own."""

    __slots__ = ("boot", "pack", "taken_ms", "time_ms", "uptime_ms")

    def __init__(
        self, boot: int, uptime_ms: int, time_ms: int | None, pack: list[dict[int, Any]], taken_ms: int
    ) -> None:
        self.boot = boot
        self.uptime_ms = uptime_ms
        self.time_ms = time_ms
        self.pack = pack
        self.taken_ms = taken_ms  # on the simulator's clock


class Sealed:
    """A sealed report: its bytes never change. ``taken_ms`` is when its reading was taken, on the
    simulator's clock; ``attempts`` how often it was given out to be sent."""

    __slots__ = ("attempts", "boot", "envelope", "samples", "seq", "taken_ms")

    def __init__(self, boot: int, seq: int, envelope: bytes, samples: int, taken_ms: int) -> None:
        self.boot = boot
        self.seq = seq
        self.envelope = envelope
        self.samples = samples
        self.taken_ms = taken_ms
        self.attempts = 0

    @property
    def name(self) -> tuple[int, int]:
        """``(boot, seq)``, which is what orders reports."""
        return self.boot, self.seq


class Flash:
    """One device's durable state. ``sealed`` is in the order of ``(boot, seq)``."""

    __slots__ = ("_unsynced", "boot", "command", "damaged", "last", "sealed", "waiting")

    def __init__(self) -> None:
        self.boot = 0
        self.command = 0
        self.last: tuple[int, int] | None = None  # the last report ever sealed
        self.sealed: dict[tuple[int, int], Sealed] = {}
        self.waiting: list[Reading] = []
        self.damaged = False  # the outbox lost something: the end of the boot before isn't stated then
        self._unsynced: list[Sealed] = []  # acknowledged, and not yet durably so

    def copy(self) -> "Flash":
        """Another chip with the same content: what a thief of a board's storage has."""
        twin = Flash()
        twin.boot, twin.command, twin.last = self.boot, self.command, self.last
        twin.sealed = dict(self.sealed)
        twin.waiting = list(self.waiting)
        twin.damaged = self.damaged
        return twin

    @property
    def window_open(self) -> bool:
        """Whether a further report may be sealed now."""
        return len(self.sealed) < IN_FLIGHT_MAX

    def begin_boot(self) -> int | None:
        """Take the next boot number, durably; returns the seq that the boot before would have used next,
        None where that isn't known."""
        self._unsynced.clear()
        last, damaged, self.damaged = self.last, self.damaged, False
        self.boot = max(self.boot, last[0] if last else 0) + 1
        if last is None or damaged:
            return None
        return last[1] + 1 if last[0] == self.boot - 1 else 0

    def keep_waiting(self, reading: Reading) -> int:
        """Store a reading; returns how many others were thinned out for it."""
        self._unsynced.clear()
        thinned = 0
        if len(self.waiting) >= WAITING_MAX:
            half = len(self.waiting) // 2 + 1
            older = self.waiting[:half]
            thinned = len(older[::2])
            self.waiting[:half] = older[1::2]
        self.waiting.append(reading)
        return thinned

    def keep_sealed(self, sealed: Sealed) -> None:
        """Store a sealed report; its name is spent."""
        self._unsynced.clear()
        self.sealed[sealed.name] = sealed
        self.last = sealed.name

    def acknowledge(self, boot: int, ranges: list[tuple[int, int]]) -> list[Sealed]:
        """Delete exactly what is covered; returns it."""
        covered = [
            entry
            for name, entry in self.sealed.items()
            if name[0] == boot and any(first <= name[1] <= last for first, last in ranges)
        ]
        for entry in covered:
            del self.sealed[entry.name]
        self._unsynced += covered
        return covered

    def cut_power(self, acks_survive: bool) -> None:
        """What a cut leaves; without ``acks_survive`` the acks since the last durable write are forgotten."""
        if not acks_survive and self._unsynced:
            back = [*self._unsynced, *self.sealed.values()]
            self.sealed = {entry.name: entry for entry in sorted(back, key=lambda entry: entry.name)}
        self._unsynced.clear()

    def damage(self, name: tuple[int, int]) -> bool:
        """Lose a sealed report for ever; False where it isn't there."""
        if self.sealed.pop(name, None) is None:
            return False
        self.damaged = True
        return True
