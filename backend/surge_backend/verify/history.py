"""What the backend knows of one device's counters: the state that verdicts are decided by.

Place in the flow: ``ingest`` loads these from ``device_boots`` and ``device_totals``, ``judging`` reads them
and gives changed copies, ``ingest`` stores the copies.

Does not: decide. Not frozen, because a batch changes one many times; whoever changes one has copied it first.
"""

from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class BootHistory:
    """One boot of a device. ``seq_max`` is -1 before its first report; ``previous_end`` is what it declared
    of boot - 1."""

    boot: int
    seq_max: int
    previous_end: int | None
    first_seen_ms: int
    last_seen_ms: int
    reports: int = 0
    samples: int = 0
    bytes: int = 0


@dataclass(slots=True)
class DeviceHistory:
    """A device's newest boots and its totals. Boots too far behind ``boot_max`` to matter are not kept here.

    ``boot_max`` is 0 before the first report. ``microcredits`` and ``carry`` are the owner's part, as
    ``ledger`` prices it.
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

    def copy(self) -> "DeviceHistory":
        """A copy that can be changed without changing this one."""
        return replace(self, boots={boot: replace(history) for boot, history in self.boots.items()})

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
