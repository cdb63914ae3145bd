"""What the backend knows of one device's counters: the state that verdicts are decided by.

Place in the flow: ``ingest`` loads these from ``device_totals`` and ``device_boots``, ``judging`` reads them
and gives changed copies, ``ingest`` stores the copies.

Does not: decide. Not frozen, because a batch changes one many times; a copy shares its earlier boots with the
original until it changes one, and then changes a copy of that.

Rules it keeps: which numbers of a boot are accepted is known exactly: all up to ``seq_max`` that lie in none
of its gaps. Only below ``gaps_from``, where gaps were given up, one has to look for the report itself.
"""

import json
from dataclasses import dataclass, field
from typing import Protocol

from surge_backend.verify.gaps import Gaps, in_gap, without
from surge_wire.report import Usage

Octets = bytes  # which a count of bytes hides
Accepted = tuple[int, int, int, int]  # seq, position in the batch, samples, bytes


def claim_of(usage: Usage) -> str:
    """A device's own counters as they are stored."""
    counters = (usage.reports, usage.samples, usage.bytes, usage.dropped, usage.fuel, usage.energy_uj)
    return json.dumps(counters)


class Numbers(Protocol):
    """Which numbers of a boot are accepted: what an earlier boot and a device's newest have in common."""

    seq_max: int
    gaps_from: int
    gaps: Gaps


def has(numbers: Numbers, seq: int) -> bool:
    """Whether ``seq``, at least ``gaps_from``, is accepted."""
    return seq <= numbers.seq_max and not (numbers.gaps and in_gap(numbers.gaps, seq))


def take(numbers: Numbers, seq: int, gaps_max: int) -> None:
    """Note that ``seq`` is accepted. Past ``gaps_max`` the oldest gap is given up."""
    expected = numbers.seq_max + 1
    if seq >= expected:
        numbers.seq_max = seq
        if seq == expected:
            return
        numbers.gaps = (*numbers.gaps, (expected, seq - 1))
    else:
        numbers.gaps = without(numbers.gaps, seq)
    if len(numbers.gaps) > gaps_max:
        numbers.gaps_from = numbers.gaps[0][1] + 1
        numbers.gaps = numbers.gaps[1:]


@dataclass(slots=True)
class BootHistory:
    """One boot. ``previous_end`` is what it declared of boot - 1.

    ``recent`` are places of its newest reports as ``ingest`` stores them, ``fresh`` those of the batch that
    is being settled. ``claim_seq`` and ``claim``: the newest report with the device's own counters, and
    those, as JSON.
    """

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
        """A copy that can be changed without changing this one."""
        return BootHistory(
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


@dataclass(slots=True)
class DeviceHistory:
    """A device's totals, its newest boot, and the boots before it by number; those too far behind
    ``boot_max`` to matter are not kept here.

    One flat object for what nearly every batch changes: with many devices, all that is touched for one is out
    of the processor's cache. Before the first report ``boot_max`` is 0 and ``seq_max`` -1. ``microcredits``
    and ``carry`` are the owner's part, as ``ledger`` prices it. From ``seq_max`` on it is the newest boot
    that is meant, as in `BootHistory`. ``changed`` are the numbers of earlier boots that differ from those of
    the history that this one was copied from; None if none does.
    """

    device_id: str
    reports: int = 0
    samples: int = 0
    bytes: int = 0
    microcredits: int = 0
    carry: int = 0
    last_report_ms: int = 0
    command_counter: int | None = None
    boot_max: int = 0
    seq_max: int = -1
    previous_end: int | None = None
    first_seen_ms: int = 0
    last_seen_ms: int = 0
    boot_reports: int = 0
    boot_samples: int = 0
    boot_bytes: int = 0
    gaps_from: int = 0
    gaps: Gaps = ()
    recent: Octets = b""
    claim_seq: int | None = None
    claim: str | None = None
    earlier: dict[int, BootHistory] = field(default_factory=dict)
    fresh: list[Accepted] = field(default_factory=list)
    changed: set[int] | None = None

    def copy(self) -> "DeviceHistory":
        """A copy that can be changed without changing this one; spelt out, as it is made for every device of
        every batch."""
        return DeviceHistory(
            self.device_id,
            self.reports,
            self.samples,
            self.bytes,
            self.microcredits,
            self.carry,
            self.last_report_ms,
            self.command_counter,
            self.boot_max,
            self.seq_max,
            self.previous_end,
            self.first_seen_ms,
            self.last_seen_ms,
            self.boot_reports,
            self.boot_samples,
            self.boot_bytes,
            self.gaps_from,
            self.gaps,
            self.recent,
            self.claim_seq,
            self.claim,
            self.earlier,
            [],
            None,
        )

    def boot(self, number: int) -> "BootHistory | DeviceHistory | None":
        """A boot's numbers and times; None if it is not known."""
        if number == self.boot_max and self.seq_max >= 0:
            return self
        return self.earlier.get(number)

    def boots(self) -> dict[int, BootHistory]:
        """Every boot that is kept, by number."""
        return self.earlier if self.seq_max < 0 else self.earlier | {self.boot_max: self._newest()}

    def count(self, boot: int, accepted: Accepted, now_ms: int, gaps_max: int) -> None:
        """Take in an accepted report."""
        seq, _, samples, length = accepted
        self.last_report_ms = now_ms
        self.reports += 1
        self.samples += samples
        self.bytes += length
        if boot < self.boot_max:
            own = self._own(boot, now_ms)
            take(own, seq, gaps_max)
            own.last_seen_ms = now_ms
            own.fresh.append(accepted)
            own.reports += 1
            own.samples += samples
            own.bytes += length
            return
        if boot > self.boot_max or self.seq_max < 0:
            self._begin(boot, now_ms)
        if seq == self.seq_max + 1:
            self.seq_max = seq
        else:
            take(self, seq, gaps_max)
        self.last_seen_ms = now_ms
        self.fresh.append(accepted)
        self.boot_reports += 1
        self.boot_samples += samples
        self.boot_bytes += length

    def declare_end(self, boot: int, previous_end: int) -> None:
        """Note what an accepted report of ``boot`` says of the boot before it; the least counts."""
        own = self if boot == self.boot_max else self.earlier[boot]
        own.previous_end = previous_end if own.previous_end is None else min(own.previous_end, previous_end)

    def claimed(self, boot: int, seq: int, usage: Usage) -> None:
        """Note the device's own counters in an accepted report; the newest count."""
        own = self if boot == self.boot_max else self.earlier[boot]
        if own.claim_seq is None or seq > own.claim_seq:
            own.claim_seq, own.claim = seq, claim_of(usage)

    def settle(self) -> None:
        """From now on this is the original."""
        self.changed = None

    def forget_before(self, boot: int) -> dict[int, BootHistory]:
        """Drop boots before ``boot``, and give them: the database still has them."""
        dropped = {number: known for number, known in self.earlier.items() if number < boot}
        self.earlier = {number: known for number, known in self.earlier.items() if number >= boot}
        return dropped

    def may_have(self, boot: int, seq: int) -> bool:
        """Whether a report of that name may be stored; False is certain."""
        if boot > self.boot_max:
            return False
        known = self.boot(boot)
        return known is None or seq < known.gaps_from or has(known, seq)

    def must_have(self, boot: int, seq: int) -> bool:
        """Whether a report of that name is stored for certain."""
        known = self.boot(boot)
        return known is not None and seq >= known.gaps_from and has(known, seq)

    def successor_first_seen_ms(self, boot: int) -> int | None:
        """When the next boot after ``boot`` was first seen, None if none was."""
        if boot >= self.boot_max:
            return None
        later = [number for number in self.earlier if number > boot]
        return self.earlier[min(later)].first_seen_ms if later else self.first_seen_ms

    def _own(self, boot: int, now_ms: int) -> BootHistory:
        """An earlier boot that can be changed."""
        changed = self._changed_here()
        if boot not in changed:
            changed.add(boot)
            known = self.earlier.get(boot)
            self.earlier[boot] = BootHistory(-1, None, now_ms, now_ms) if known is None else known.copy()
        return self.earlier[boot]

    def _changed_here(self) -> set[int]:
        """``changed``, to add to: from now on the earlier boots are this history's own."""
        if self.changed is None:
            self.changed = set()
            self.earlier = self.earlier.copy()
        return self.changed

    def _begin(self, boot: int, now_ms: int) -> None:
        """From now on ``boot`` is the newest."""
        if self.seq_max >= 0:
            self._changed_here().add(self.boot_max)
            self.earlier[self.boot_max] = self._newest()
        self.boot_max = boot
        self.seq_max = -1
        self.previous_end = self.claim_seq = self.claim = None
        self.first_seen_ms = self.last_seen_ms = now_ms
        self.boot_reports = self.boot_samples = self.boot_bytes = self.gaps_from = 0
        self.gaps = ()
        self.recent = b""
        self.fresh = []

    def _newest(self) -> BootHistory:
        return BootHistory(
            self.seq_max,
            self.previous_end,
            self.first_seen_ms,
            self.last_seen_ms,
            self.boot_reports,
            self.boot_samples,
            self.boot_bytes,
            self.gaps_from,
            self.gaps,
            self.recent,
            self.claim_seq,
            self.claim,
            self.fresh,
        )
