"""Cuts samples into windows, for a store that can't. Pure.

Place in the flow: behind the Prometheus reader, whose servers place windows otherwise than the port does.

Rules it keeps: windows are aligned to 1970; a window without numbers gives nothing; truth values and texts
are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from surge_backend.telemetry.points import NS_PER_MS
from surge_backend.telemetry.store import Aggregate, Sample, sample_order

# Values of one window, oldest first.
_FUNCTIONS: Final[dict[Aggregate, Callable[[Sequence[float]], float]]] = {
    "mean": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
    "count": len,
    "last": lambda values: values[-1],
}


def window_samples(samples: Iterable[Sample], window_ms: int, aggregate: Aggregate) -> list[Sample]:
    """One sample per window and series. ``samples`` come oldest first."""
    window_ns = window_ms * NS_PER_MS
    windows: dict[tuple[str, str, str, int], list[float]] = {}
    for sample in samples:
        if isinstance(sample.value, bool | str):
            continue
        start_ns = sample.time_ns // window_ns * window_ns
        windows.setdefault((sample.device_id, sample.name, sample.unit, start_ns), []).append(sample.value)
    function = _FUNCTIONS[aggregate]
    found = [
        Sample(device_id, name, unit, start_ns, function(values))
        for (device_id, name, unit, start_ns), values in windows.items()
    ]
    return sorted(found, key=sample_order)
