"""When something was measured, as far as it can be believed.

Place in the flow: ``points`` asks for the time of every record and window.

Does not: read a clock. All times were stored with the batch, so a rebuild finds the same ones (invariant 5).

Rules it keeps (threat 7), each time bounded by a better known one:

* the backend's receive time is taken as it is;
* the gateway's receive time counts if it is not later than that, nor more than SPOOLED_MS_MAX earlier;
  otherwise the backend's does, and the points are flagged;
* the device's time counts if it is within TIME_PAST_MS_MAX before and TIME_FUTURE_MS_MAX after the
  gateway's; otherwise the gateway's does, and the points are flagged. Without a clock the gateway's counts,
  with a flag of its own;
* a record's own time, relative or absolute (RFC 8428 section 4.5.3), is bounded like the device's.
"""

from dataclasses import dataclass
from typing import Final

from surge_backend.telemetry.points import TIME_FROM_GATEWAY, TIME_SKEWED
from surge_wire.senml import ABSOLUTE_TIME_S

_DAY_MS: Final = 86_400_000
# A gateway without an uplink for longer than that has lost its place in time.
SPOOLED_MS_MAX: Final = 30 * _DAY_MS
TIME_PAST_MS_MAX: Final = 30 * _DAY_MS  # what a device's outbox may have kept
TIME_FUTURE_MS_MAX: Final = 5 * 60_000  # how far clocks may differ
_SECONDS_MAX: Final = 1 << 40  # beyond, a float times 1000 is no time anyway


@dataclass(frozen=True, slots=True)
class BelievedTime:
    """A moment in milliseconds, and the flags of points that carry it."""

    time_ms: int
    flags: int


def reference_time(gateway_ms: int, server_ms: int) -> BelievedTime:
    """When the gateway had it, as far as the backend can tell."""
    if server_ms - SPOOLED_MS_MAX <= gateway_ms <= server_ms:
        return BelievedTime(gateway_ms, 0)
    return BelievedTime(server_ms, TIME_SKEWED)


def report_time(device_ms: int | None, reference: BelievedTime) -> BelievedTime:
    """When the device made a report that says ``device_ms``."""
    if device_ms is None:
        return BelievedTime(reference.time_ms, reference.flags | TIME_FROM_GATEWAY)
    return _within(device_ms, reference, reference)


def record_time(time_s: int | float, report: BelievedTime, reference: BelievedTime) -> BelievedTime:
    """When a record of that report was measured; ``time_s`` as in SenML."""
    if time_s == 0:
        return report
    if abs(time_s) >= _SECONDS_MAX:
        return BelievedTime(report.time_ms, report.flags | TIME_SKEWED)
    time_ms = round(time_s * 1000)
    if time_s >= ABSOLUTE_TIME_S:
        return _within(time_ms, reference, report)
    believed = _within(report.time_ms + time_ms, reference, report)
    return BelievedTime(believed.time_ms, believed.flags | report.flags)


def _within(time_ms: int, reference: BelievedTime, otherwise: BelievedTime) -> BelievedTime:
    if reference.time_ms - TIME_PAST_MS_MAX <= time_ms <= reference.time_ms + TIME_FUTURE_MS_MAX:
        return BelievedTime(time_ms, 0)
    return BelievedTime(otherwise.time_ms, otherwise.flags | TIME_SKEWED)
