"""What goes into one batch: the next reports of the spool, as many as the limits allow.

Place in the flow: pure, between `spool.read` and `store.seal`. `aggregate` is the other way to cut. Rule
kept: a batch stands for a whole stretch of the spool, so that one position says what it covers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from surge_gateway.spool import Placed
from surge_gateway.spool_record import START, Position
from surge_wire.batch import Summarised, Window

REPORT_OVERHEAD_LEN = 16  # a report's own head, and its time, in the batch's CBOR


@dataclass(frozen=True, slots=True)
class CutLimits:
    """A batch is closed by whichever comes first."""

    reports_max: int
    bytes_max: int


def _nothing() -> None:
    """For cutters that remember nothing."""


@dataclass(slots=True)
class Cut:
    """Reports for one batch: `taken_count` reports of the spool, up to `end`.

    `next_received_ms`: when the first report came that is not taken; None where none was left.
    """

    reports: list[bytes] = field(default_factory=list)
    received_ms: list[int] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    summarised: list[Summarised] = field(default_factory=list)
    taken_count: int = 0
    taken_bytes: int = 0
    end: Position = START
    next_received_ms: int | None = None
    on_sealed: Callable[[], None] = _nothing  # once the batch is on disk: a cut may be tried twice


Cutter = Callable[[Iterator[Placed], CutLimits], Cut]


def cut_verbatim(placed: Iterator[Placed], limits: CutLimits) -> Cut:
    """Reports as they came, until a limit; one at least, if there is one."""
    cut = Cut()
    length = 0
    for item in placed:
        record = item.record
        length += len(record.report) + REPORT_OVERHEAD_LEN
        if cut.reports and (length > limits.bytes_max or cut.taken_count >= limits.reports_max):
            cut.next_received_ms = record.received_ms
            break
        cut.reports.append(record.report)
        cut.received_ms.append(record.received_ms)
        cut.taken_count += 1
        cut.taken_bytes += len(record.report)
        cut.end = item.end
    return cut
