"""What a device says of itself on its console, as numbers.

Place in the flow: ``demo.network`` feeds it the lines of the firmware; the view and the outcome read it.
Pure.
"""

import re
from dataclasses import dataclass, field

_PAIR = re.compile(r"(\w+)=(\S*)")


@dataclass
class DeviceStatus:
    """Running totals over all boots of one device in this demo; ``unacked`` are seqs of the last boot."""

    boot: int = 0
    made_by_boot: dict[int, int] = field(default_factory=dict)
    unacked: tuple[int, ...] = ()
    waiting: int = 0
    acked: int = 0  # since the last start, reports of earlier boots included
    dropped: int = 0
    linked: bool = False
    heap_free: int = 0
    ended: bool = False
    last_warning: str = ""

    @property
    def made(self) -> int:
        """Reports sealed."""
        return sum(self.made_by_boot.values())

    @property
    def acknowledged(self) -> int:
        """Reports that the gateway has said it has on disk; exact once the device ended."""
        return max(0, self.made - (len(self.unacked) if self.ended else self.waiting))

    def acknowledged_ids(self) -> list[tuple[int, int]]:
        """Every ``(boot, seq)`` that was acknowledged, once the device ended."""
        return [
            (boot, seq)
            for boot, made in sorted(self.made_by_boot.items())
            for seq in range(made)
            if boot != self.boot or seq not in self.unacked
        ]

    def take(self, line: str) -> None:
        """Read one line of the console."""
        parts = line.split(" ", 3)
        if len(parts) < 3 or len(parts[0]) != 1:
            return
        level, _uptime, event = parts[:3]
        pairs = dict(_PAIR.findall(parts[3])) if len(parts) == 4 else {}
        if event in ("status", "start") and "boot" in pairs:
            self.boot = int(pairs["boot"])
        if event == "start":
            self.acked = 0
        if event == "status":
            self.made_by_boot[self.boot] = int(pairs["made"])
            self.waiting = int(pairs["waiting"])
            self.acked = int(pairs["acked"])
            self.dropped = int(pairs["dropped"])
            self.linked = pairs["linked"] == "1"
            self.heap_free = int(pairs["heap_free"])
        elif event == "end":
            self.unacked = tuple(int(seq) for seq in pairs.get("unacked", "").split(",") if seq)
            self.ended = True
        elif level in "WE":
            self.last_warning = line
