"""What really happened: every report that was sealed, lost for ever and acknowledged, and how long it took.

Place in the flow: members and adversaries write, the books and those who break a network on purpose read.
Pure. Rule kept: only what happened is counted, at the moment it happened; a plan counts for nothing here.
"""

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

ReportName = tuple[str, int, int]  # device, boot, seq

LATENCIES_KEPT_MAX = 2_000_000  # 8 bytes each; of more, the first ones are kept and the rest counted


class SeqRanges:
    """A set of seqs as inclusive ranges, rising, never touching."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._firsts, seq) - 1
        return at >= 0 and seq <= self._lasts[at]

    def __len__(self) -> int:
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def __iter__(self) -> Iterator[int]:
        for first, last in zip(self._firsts, self._lasts, strict=True):
            yield from range(first, last + 1)

    def add(self, seq: int) -> bool:
        """Add one; False where it was there."""
        firsts, lasts = self._firsts, self._lasts
        at = bisect_right(firsts, seq)
        if at and seq <= lasts[at - 1]:
            return False
        joins_before = at > 0 and lasts[at - 1] + 1 == seq
        joins_after = at < len(firsts) and firsts[at] == seq + 1
        if joins_before and joins_after:
            lasts[at - 1] = lasts[at]
            del firsts[at], lasts[at]
        elif joins_before:
            lasts[at - 1] = seq
        elif joins_after:
            firsts[at] = seq
        else:
            firsts.insert(at, seq)
            lasts.insert(at, seq)
        return True


@dataclass(slots=True)
class Sealings:
    """What one device sealed; ``samples`` and ``bytes`` without what was lost for ever."""

    boots: dict[int, int] = field(default_factory=dict)  # boot -> how many reports, seq 0 first
    reports: int = 0
    samples: int = 0
    bytes: int = 0
    lost: set[tuple[int, int]] = field(default_factory=set)


class Journal:
    """``counts`` are totals by name. The two hooks are called for each report as it happens:
    ``on_sealed(name, taken_ms)`` and ``on_acknowledged(name, taken_ms, acked_ms)``, on the fleet's clock."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sealings: dict[str, Sealings] = {}
        self.cloned: dict[str, str] = {}  # devices whose key was really used by a second holder, and how
        self.latencies_ms = array("d")  # from a reading's taking to its ack
        self.on_sealed: Callable[[ReportName, int], None] | None = None
        self.on_acknowledged: Callable[[ReportName, int, int], None] | None = None
        self._acknowledged: dict[str, dict[int, SeqRanges]] = {}

    def sealed(self, name: ReportName, samples: int, length: int, taken_ms: int) -> None:
        """A device sealed a report of its own."""
        device_id, boot, seq = name
        own = self.sealings.get(device_id)
        if own is None:
            own = self.sealings[device_id] = Sealings()
        own.boots[boot] = seq + 1
        own.reports += 1
        own.samples += samples
        own.bytes += length
        self.counts["sealed"] += 1
        if self.on_sealed is not None:
            self.on_sealed(name, taken_ms)

    def lost_for_ever(self, name: ReportName, samples: int, length: int) -> None:
        """Flash lost a sealed report before anybody saw it."""
        own = self.sealings[name[0]]
        own.lost.add(name[1:])
        own.samples -= samples
        own.bytes -= length
        self.counts["lost_for_ever"] += 1

    def acknowledged(self, name: ReportName, taken_ms: int | None = None, acked_ms: int = 0) -> None:
        """An ack covered a report; ``taken_ms`` is absent where it wasn't a device's own: a second holder's
        of its key, or a flood's."""
        device_id, boot, seq = name
        of_boot = self._acknowledged.setdefault(device_id, {})
        ranges = of_boot.get(boot)
        if ranges is None:
            ranges = of_boot[boot] = SeqRanges()
        if not ranges.add(seq):
            return
        if taken_ms is None:
            self.counts["acknowledged_to_others"] += 1
            return
        self.counts["acknowledged"] += 1
        if len(self.latencies_ms) < LATENCIES_KEPT_MAX:
            self.latencies_ms.append(acked_ms - taken_ms)
        if self.on_acknowledged is not None:
            self.on_acknowledged(name, taken_ms, acked_ms)

    def acknowledged_names(self) -> Iterator[ReportName]:
        """Every name that an ack covered, each once."""
        for device_id, boots in self._acknowledged.items():
            for boot, ranges in boots.items():
                for seq in ranges:
                    yield device_id, boot, seq

    def sealed_names(self, device_id: str) -> set[tuple[int, int]]:
        """Every ``(boot, seq)`` that a device sealed and did not lose for ever."""
        own = self.sealings.get(device_id)
        if own is None:
            return set()
        return {(boot, seq) for boot, count in own.boots.items() for seq in range(count)} - own.lost


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which ``share`` of ``values`` lie; None where there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
