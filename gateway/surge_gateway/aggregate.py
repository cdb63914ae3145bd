"""Windows in place of single readings, for sites with a thin uplink: count, minimum, mean and maximum.

Place in the flow: the other way to cut a batch (`cut`), pure. What it takes from the spool is one window's
stretch, so a batch holds whole windows, and the spool keeps the reports until that batch's receipt. Rules
kept: only plain readings are summarised; usage, the first report of a boot, the news that a command was
executed, texts, switches, sums, readings with a time of their own and late reports go as they came; what
was summarised is listed by seq, for it is not paid and must not look lost.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from surge_gateway.cut import REPORT_OVERHEAD_LEN, Cut, CutLimits
from surge_gateway.dedupe import SeqSet
from surge_gateway.spool import Placed
from surge_wire.batch import Summarised, Window
from surge_wire.errors import DecodeError
from surge_wire.limits import (
    BATCH_LEN_MAX,
    BATCH_SUMMARISED_MAX,
    BATCH_WINDOWS_MAX,
    RECORDS_MAX,
    SUMMARISED_RANGES_MAX,
)
from surge_wire.report import Report, decode_report, open_report
from surge_wire.senml import Record

REPORTS_MAX = 50_000  # looked at for one batch; the rest of the window goes into another
WINDOW_LEN = 160  # a window's bytes in a batch, at most
RANGE_LEN = 40  # a range's bytes in a batch, at most, with what names its device
# Beyond it no further report is taken: the one before may have brought this many windows.
BYTES_SAFE = BATCH_LEN_MAX - 4096 - RECORDS_MAX * WINDOW_LEN - RANGE_LEN
VALUE_MAX = 1e300  # a larger reading goes as it came: sums stay finite

Key = tuple[str, str, str]  # device id, name, unit


@dataclass(slots=True)
class Running:
    """One quantity of one device so far."""

    count: int = 0
    total: float = 0.0
    minimum: int | float = 0
    maximum: int | float = 0

    def add(self, value: int | float) -> None:
        if self.count == 0:
            self.minimum = self.maximum = value
        self.count += 1
        self.total += value
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)

    @property
    def mean(self) -> float:
        """Within minimum and maximum, also where adding has rounded."""
        return float(min(max(self.total / self.count, self.minimum), self.maximum))


@dataclass(slots=True)
class Windows:
    """All quantities and summarised seqs of one batch."""

    running: dict[Key, Running] = field(default_factory=dict)
    seqs: dict[tuple[str, int], SeqSet] = field(default_factory=dict)
    command_counters: dict[str, int] = field(default_factory=dict)  # that this batch tells the backend
    range_count: int = 0
    first_ms: int = 0
    last_ms: int = 0

    def take(self, device_id: str, report: Report, records: list[Record], received_ms: int) -> bool:
        """Summarise a report; False where a bound says that it goes as it came."""
        seqs = self.seqs.setdefault((device_id, report.boot), SeqSet())
        if report.seq in seqs or len(seqs.firsts) >= min(SUMMARISED_RANGES_MAX, _RANGES_SAFE):
            return False
        before = len(seqs.firsts)
        seqs.add(report.seq)
        self.range_count += len(seqs.firsts) - before
        for record in records:
            self.running.setdefault((device_id, record.name, record.unit), Running()).add(record.value)  # type: ignore[arg-type]
        if not self.first_ms:
            self.first_ms = received_ms
        self.last_ms = max(self.last_ms, received_ms)
        return True


_RANGES_SAFE = 60  # below `dedupe.RANGES_MAX`, where a SeqSet begins to forget


class Aggregator:
    """`cut` is a Cutter. Remembers across batches which command counters the backend has been told."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._command_counters: dict[str, int] = {}
        self._last_window: int | None = None  # that a batch has ended in

    def cut(self, placed: Iterator[Placed], limits: CutLimits) -> Cut:
        """What came in one window: plain readings summarised, the rest as it came."""
        cut = Cut()
        windows = Windows()
        length = 0
        number: int | None = None
        for item in placed:
            record = item.record
            if number is None:
                number = record.received_ms // self._window_ms
            if record.received_ms // self._window_ms != number or self._is_full(cut, windows, length, limits):
                cut.next_received_ms = record.received_ms
                break
            if not self._summarise(record.report, record.received_ms, windows):
                cut.reports.append(record.report)
                cut.received_ms.append(record.received_ms)
                length += len(record.report) + REPORT_OVERHEAD_LEN
            cut.taken_count += 1
            cut.taken_bytes += len(record.report)
            cut.end = item.end
        if number is not None:
            self._close(cut, windows, number)
        return cut

    def _is_full(self, cut: Cut, windows: Windows, length: int, limits: CutLimits) -> bool:
        return cut.taken_count > 0 and (
            len(cut.reports) >= limits.reports_max
            or cut.taken_count >= REPORTS_MAX
            or len(windows.running) >= BATCH_WINDOWS_MAX // 2
            or len(windows.seqs) >= BATCH_SUMMARISED_MAX // 2
            or length + WINDOW_LEN * len(windows.running) + RANGE_LEN * windows.range_count
            >= min(limits.bytes_max, BYTES_SAFE)
        )

    def _summarise(self, envelope: bytes, received_ms: int, windows: Windows) -> bool:
        try:
            device_id, opened = open_report(envelope)
            report = decode_report(opened.payload)
            records = report.records()
        except DecodeError:
            return False  # the backend judges it
        counter = report.command_counter
        told = windows.command_counters.get(device_id, self._command_counters.get(device_id))
        if counter is not None and told != counter:
            windows.command_counters[device_id] = counter
            return False
        if not self._is_plain(report, records, received_ms):
            return False
        return windows.take(device_id, report, records, received_ms)

    def _is_plain(self, report: Report, records: list[Record], received_ms: int) -> bool:
        if report.usage is not None or report.previous_end is not None or not records:
            return False
        if report.time_ms is not None and abs(received_ms - report.time_ms) > self._window_ms:
            return False  # from a backlog: in this window it would be wrong
        return all(
            (type(record.value) is int or type(record.value) is float)
            and -VALUE_MAX <= record.value <= VALUE_MAX
            and record.time_s == 0
            and record.sum is None
            and record.update_time_s is None
            for record in records
        )

    def _close(self, cut: Cut, windows: Windows, number: int) -> None:
        """Windows have the bounds of their place on the clock, unless a batch was closed within."""
        complete = cut.next_received_ms is None or cut.next_received_ms // self._window_ms != number
        from_ms = number * self._window_ms if self._last_window != number else windows.first_ms
        to_ms = (number + 1) * self._window_ms if complete else windows.last_ms + 1

        def on_sealed() -> None:
            self._last_window = number
            self._command_counters.update(windows.command_counters)

        cut.on_sealed = on_sealed
        for (device_id, name, unit), running in windows.running.items():
            cut.windows.append(
                Window(
                    device_id,
                    name,
                    unit,
                    from_ms,
                    to_ms,
                    running.count,
                    running.minimum,
                    running.mean,
                    running.maximum,
                )
            )
        for (device_id, boot), seqs in windows.seqs.items():
            if seqs.firsts:
                cut.summarised.append(Summarised(device_id, boot, seqs.ranges()))
