"""What the backend knows of one device's counters: the state that verdicts are decided by.

Place in the flow: ``ingest`` loads these from ``device_boots`` and ``device_totals``, ``judging`` reads them
and gives changed copies, ``ingest`` stores the copies.

Does not: decide. Not frozen, because a batch changes one many times; a copy shares its boots with the
original until it changes one, and then changes a copy of that.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class BootHistory:
    """One boot of a device. ``previous_end`` is what it declared of boot - 1."""

    boot: int
    seq_max: int
    previous_end: int | None
    first_seen_ms: int
    last_seen_ms: int
    reports: int = 0
    samples: int = 0
    bytes: int = 0

    def copy(self) -> "BootHistory":
        """A copy; spelt out, as it is made for every device of every batch."""
        return BootHistory(
            self.boot,
            self.seq_max,
            self.previous_end,
            self.first_seen_ms,
            self.last_seen_ms,
            self.reports,
            self.samples,
            self.bytes,
        )


@dataclass(slots=True)
class DeviceHistory:
    """A device's newest boots and its totals. Boots too far behind ``boot_max`` to matter are not kept here.

    ``boot_max`` is 0 before the first report. ``microcredits`` and ``carry`` are the owner's part, as
    ``ledger`` prices it. ``changed`` are the boots that differ from those of the history that this one was
    copied from.
    """

    device_id: str
    boots: dict[int, BootHistory] = field(default_factory=dict)
    boot_max: int = 0
    reports: int = 0
    samples: int = 0
    bytes: int = 0
    microcredits: int = 0
    carry: int = 0
    last_report_ms: int = 0
    command_counter: int | None = None
    changed: dict[int, BootHistory] = field(default_factory=dict)

    def copy(self) -> "DeviceHistory":
        """A copy that can be changed without changing this one."""
        return DeviceHistory(
            self.device_id,
            self.boots.copy(),
            self.boot_max,
            self.reports,
            self.samples,
            self.bytes,
            self.microcredits,
            self.carry,
            self.last_report_ms,
            self.command_counter,
        )

    def count(self, boot: int, seq: int, samples: int, length: int, now_ms: int) -> None:
        """Take in an accepted report."""
        own = self.changed.get(boot)
        if own is None:
            known = self.boots.get(boot)
            own = BootHistory(boot, -1, None, now_ms, now_ms) if known is None else known.copy()
            self.boots[boot] = self.changed[boot] = own
            if boot > self.boot_max:
                self.boot_max = boot
        if seq > own.seq_max:
            own.seq_max = seq
        own.last_seen_ms = self.last_report_ms = now_ms
        own.reports += 1
        own.samples += samples
        own.bytes += length
        self.reports += 1
        self.samples += samples
        self.bytes += length

    def declare_end(self, boot: int, previous_end: int) -> None:
        """Note what an accepted report of ``boot`` says of the boot before it; the least counts."""
        own = self.changed[boot]
        own.previous_end = previous_end if own.previous_end is None else min(own.previous_end, previous_end)

    def settle(self) -> None:
        """From now on this is the original."""
        self.changed = {}

    def forget_before(self, boot: int) -> None:
        """Drop boots before ``boot``: the database still has them."""
        for number in [number for number in self.boots if number < boot]:
            del self.boots[number]

    def may_have(self, boot: int, seq: int) -> bool:
        """Whether a report of that name may be stored; False is certain."""
        if boot > self.boot_max:
            return False
        known = self.boots.get(boot)
        return known is None or seq <= known.seq_max

    def successor_first_seen_ms(self, boot: int) -> int | None:
        """When the next boot after ``boot`` was first seen, None if none was."""
        later = [number for number in self.boots if number > boot]
        return self.boots[min(later)].first_seen_ms if later else None
