"""What the backend knows of one device's counters: the state that verdicts are decided by.

Place in the flow: ``ingest`` loads these from ``device_totals`` and ``device_boots``, ``judging`` reads them
and gives changed copies, ``ingest`` stores the copies.

Does not: decide. Not frozen, because a batch changes one many times; a copy shares its boots with the
original until it changes one, and then changes a copy of that.

Rules it keeps: which numbers of a boot are accepted is known exactly: all up to ``seq_max`` that lie in none
of its gaps. Only below ``gaps_from``, where gaps were given up, one has to look for the report itself.
"""

import json
from dataclasses import dataclass, field

from surge_backend.verify.gaps import Gaps, in_gap, without
from surge_wire.report import Usage

Octets = bytes  # which a boot's count of bytes hides
Accepted = tuple[int, int, int, int]  # seq, position in the batch, samples, bytes


def claim_of(usage: Usage) -> str:
    """A device's own counters as they are stored."""
    counters = (usage.reports, usage.samples, usage.bytes, usage.dropped, usage.fuel, usage.energy_uj)
    return json.dumps(counters)


@dataclass(slots=True)
class BootHistory:
    """One boot of a device. ``previous_end`` is what it declared of boot - 1.

    ``recent`` are places of its newest reports as ``ingest`` stores them, ``fresh`` those of the batch that
    is being settled. ``claim_seq`` and ``claim``: the newest report with the device's own counters, and
    those, as JSON.
    """

    boot: int
    seq_max: int
    previous_end: int | None
    first_seen_ms: int
    last_seen_ms: int
    reports: int = 0
    samples: int = 0
    bytes: int = 0
    gaps_from: int = 0
    gaps: Gaps = ()
    recent: Octets = b""
    claim_seq: int | None = None
    claim: str | None = None
    fresh: list[Accepted] = field(default_factory=list)

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
            self.gaps_from,
            self.gaps,
            self.recent,
            self.claim_seq,
            self.claim,
            self.fresh[:],
        )

    def has(self, seq: int) -> bool:
        """Whether ``seq``, at least ``gaps_from``, is accepted."""
        return seq <= self.seq_max and not (self.gaps and in_gap(self.gaps, seq))

    def take(self, seq: int, gaps_max: int) -> None:
        """Note that ``seq`` is accepted. Past ``gaps_max`` the oldest gap is given up."""
        expected = self.seq_max + 1
        if seq >= expected:
            self.seq_max = seq
            if seq > expected:
                gaps = (*self.gaps, (expected, seq - 1))
                if len(gaps) > gaps_max:
                    self.gaps_from = gaps[0][1] + 1
                    gaps = gaps[1:]
                self.gaps = gaps
        else:
            self.gaps = without(self.gaps, seq)
            if len(self.gaps) > gaps_max:
                self.gaps_from = self.gaps[0][1] + 1
                self.gaps = self.gaps[1:]


@dataclass(slots=True)
class DeviceHistory:
    """A device's newest boots and its totals. Boots too far behind ``boot_max`` to matter are not kept here.

    ``boot_max`` is 0 before the first report. ``microcredits`` and ``carry`` are the owner's part, as
    ``ledger`` prices it. ``changed`` are the boots that differ from those of the history that this one was
    copied from.
    """

    device_id: str
    boots: dict[int, BootHistory] = field(default_factory=dict)
    reports: int = 0
    samples: int = 0
    bytes: int = 0
    microcredits: int = 0
    carry: int = 0
    last_report_ms: int = 0
    command_counter: int | None = None
    boot_max: int = 0
    changed: dict[int, BootHistory] = field(default_factory=dict)

    def copy(self) -> "DeviceHistory":
        """A copy that can be changed without changing this one."""
        return DeviceHistory(
            self.device_id,
            self.boots.copy(),
            self.reports,
            self.samples,
            self.bytes,
            self.microcredits,
            self.carry,
            self.last_report_ms,
            self.command_counter,
            self.boot_max,
        )

    def count(self, boot: int, accepted: Accepted, now_ms: int, gaps_max: int) -> BootHistory:
        """Take in an accepted report; gives its boot, which is this history's own."""
        own = self.changed.get(boot)
        if own is None:
            known = self.boots.get(boot)
            own = BootHistory(boot, -1, None, now_ms, now_ms) if known is None else known.copy()
            self.boots[boot] = self.changed[boot] = own
            if boot > self.boot_max:
                self.boot_max = boot
        seq, _, samples, length = accepted
        if seq == own.seq_max + 1:
            own.seq_max = seq
        else:
            own.take(seq, gaps_max)
        own.last_seen_ms = self.last_report_ms = now_ms
        own.fresh.append(accepted)
        own.reports += 1
        own.samples += samples
        own.bytes += length
        self.reports += 1
        self.samples += samples
        self.bytes += length
        return own

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
        return known is None or seq < known.gaps_from or known.has(seq)

    def must_have(self, boot: int, seq: int) -> bool:
        """Whether a report of that name is stored for certain."""
        known = self.boots.get(boot)
        return known is not None and seq >= known.gaps_from and known.has(seq)

    def successor_first_seen_ms(self, boot: int) -> int | None:
        """When the next boot after ``boot`` was first seen, None if none was."""
        later = [number for number in self.boots if number > boot]
        return self.boots[min(later)].first_seen_ms if later else None
