"""The telemetry points of one settled batch. Pure, so that a rebuilt store comes out the same (invariant 5).

Place in the flow: ``source`` reads a batch as it was stored, the projector writes what this makes of it.

Does not: verify. The settlement says which reports were accepted, and only those have points; the device's
id is the one that the report's MAC proved (threats 8 and 20).

Rules it keeps:

* a record's value is a point; a record's sum (RFC 8428 section 4.3) is a point of the name ``<name>/sum``;
* a gateway's window is four points, ``<name>/count``, ``/min``, ``/mean``, ``/max``, at the window's start,
  flagged as aggregated; windows count only for the devices that the gateway may speak for, as was decided
  when the batch came;
* what can't be a point (a name too long for its suffix, a time outside the store's years) is left out and
  counted.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from surge_backend.projection.times import BelievedTime, record_time, reference_time, report_time
from surge_backend.telemetry.points import AGGREGATED, Point, PointError, Value, point_time_ns
from surge_wire.batch import Batch, Window, decode_batch, open_batch
from surge_wire.limits import UINT32_MAX
from surge_wire.report import Report, decode_report, open_report
from surge_wire.settlement import Settlement
from surge_wire.verdicts import ACCEPTED

COUNT_UNIT: Final = "count"


@dataclass(slots=True)
class BatchPoints:
    """``left_out`` counts values that no point can carry."""

    points: list[Point] = field(default_factory=list)
    left_out: int = 0

    def add(self, device_id: str, name: str, unit: str, time_ns: int, value: Value, flags: int) -> None:
        """Keep a point, or count it as left out."""
        try:
            self.points.append(Point(device_id, name, unit, time_ns, value, flags))
        except PointError:
            self.left_out += 1


def batch_points(envelope: bytes, settlement: Settlement, window_devices: Collection[str]) -> BatchPoints:
    """The points of a batch as it was stored; it was decoded before, so DecodeError means damage."""
    batch = decode_batch(open_batch(envelope)[1].payload)
    made = BatchPoints()
    for position, code in enumerate(settlement.verdicts()):
        if code == ACCEPTED:
            device_id, opened = open_report(batch.reports[position])
            reference = reference_time(batch.received_ms[position], settlement.received_ms)
            _add_report(made, device_id, decode_report(opened.payload), reference)
    reference = reference_time(batch.closed_ms, settlement.received_ms)
    for position, window in enumerate(batch.windows):
        if window.device_id in window_devices:
            _add_window(made, batch, position, window, reference)
    return made


def _add_report(made: BatchPoints, device_id: str, report: Report, reference: BelievedTime) -> None:
    moment = report_time(report.time_ms, reference)
    for index, record in enumerate(report.records()):
        believed = record_time(record.time_s, moment, reference)
        time_ns = point_time_ns(believed.time_ms, report.boot, report.seq, index)
        if record.value is not None:
            made.add(device_id, record.name, record.unit, time_ns, record.value, believed.flags)
        if record.sum is not None:
            made.add(device_id, record.name + "/sum", record.unit, time_ns, record.sum, believed.flags)


def _add_window(
    made: BatchPoints, batch: Batch, position: int, window: Window, reference: BelievedTime
) -> None:
    believed = report_time(window.from_ms, reference)
    time_ns = point_time_ns(believed.time_ms, batch.seq & UINT32_MAX, position, 0)
    for suffix, unit, value in _window_values(window):
        flags = believed.flags | AGGREGATED
        made.add(window.device_id, f"{window.name}/{suffix}", unit, time_ns, value, flags)


def _window_values(window: Window) -> Iterator[tuple[str, str, Value]]:
    yield "count", COUNT_UNIT, window.count
    yield "min", window.unit, window.minimum
    yield "mean", window.unit, window.mean
    yield "max", window.unit, window.maximum
