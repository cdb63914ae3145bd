"""What the backend measures, in Prometheus' terms.

Place in the flow: `app` makes one `Metrics`; the API's edge and the batch route count into it; `/metrics`
renders it. State that lives elsewhere (tree size, projector lag) is read when it is asked for, by `observe`.

Rules kept: a registry of its own, so two applications in one process don't mix; label values come from
bounded sets: route templates, known methods, status codes, verdict names. With several workers each counts
into files that all share (`share_measurements`), and whichever is asked answers for all of them: counters and
histograms are sums since the supervisor's start and survive a worker; gauges are sums over the workers that
live, at most REFRESH_S old, but for those of MAXIMA, which are the same question asked of each.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

REFRESH_S = 1.0  # how old another worker's gauges may be
MAXIMA = frozenset(("surge_telemetry_lag_batches", "surge_log_stopped"))
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_DURATION_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH_LEN_BUCKETS = (1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4.2e6)

Gauges = Callable[[], dict[str, tuple[str, float | None]]]


def share_measurements(folder: Path, place: str) -> None:
    """From now on this process measures into files in `folder`, under the name of its `place`.

    A worker that takes another's place goes on where that one's counters were.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


def forget_gauges(folder: Path, place: str) -> None:
    """A worker ended: what it said of itself no longer holds."""
    mark_process_dead(place, str(folder))  # type: ignore[no-untyped-call]


def count_restarts() -> Callable[[], None]:
    """What the supervisor calls for each worker that ended by itself."""
    ended = Counter("surge_workers_ended", "Workers that ended and were started again.", registry=None)
    return ended.inc


class _Observed(Collector):
    """Gauges that are read when Prometheus asks: `{name: (help, value)}`; None is left out."""

    def __init__(self, read: Gauges) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, (text, value) in self._read().items():
            if value is not None:
                yield GaugeMetricFamily(name, text, value=value)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []  # so that registering reads nothing yet


class Metrics:
    """The backend's counters and histograms; `shared` is the folder that `share_measurements` was told."""

    def __init__(self, shared: Path | None = None) -> None:
        self.registry = CollectorRegistry()
        self._shared = shared
        self._read: Gauges = dict
        self._gauges: dict[str, Gauge] = {}
        self._requests = Counter(
            "surge_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "surge_http_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("method", "route"),
            buckets=_DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self._batches = Counter(
            "surge_batches", "Batches by what became of them.", ("outcome",), registry=self.registry
        )
        self._batch_bytes = Histogram(
            "surge_batch_bytes", "Sizes of batches.", buckets=_BATCH_LEN_BUCKETS, registry=self.registry
        )
        self._ingest_seconds = Histogram(
            "surge_batch_ingest_seconds",
            "Time to verify, settle and commit a batch.",
            buckets=_DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self._reports = Counter("surge_reports", "Reports by verdict.", ("verdict",), registry=self.registry)
        self._left_out = Counter(
            "surge_telemetry_points_left_out",
            "Values that have no point in the telemetry store, by reason; repeats included.",
            ("reason",),
            registry=self.registry,
        )

    def observe(self, read: Gauges) -> None:
        """Add gauges that `read` gives each time the metrics are asked for."""
        if self._shared is None:
            self.registry.register(_Observed(read))
        else:
            self._read = read
            self.refresh()

    def refresh(self) -> None:
        """Let the other workers see our gauges."""
        for name, (text, value) in self._read().items():
            gauge = self._gauges.get(name)
            if gauge is None:
                mode: Literal["livemax", "livesum"] = "livemax" if name in MAXIMA else "livesum"
                gauge = self._gauges[name] = Gauge(name, text, registry=self.registry, multiprocess_mode=mode)
            gauge.set(value or 0.0)

    def request(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one request. `route` is a template such as `/v1/devices/{device_id}`."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._request_seconds.labels(known, route).observe(duration_s)

    def batch(self, outcome: str, length: int, duration_s: float) -> None:
        """Count one batch: `outcome` is `settled`, `repeated` or a problem's code."""
        self._batches.labels(outcome).inc()
        self._batch_bytes.observe(length)
        self._ingest_seconds.observe(duration_s)

    def reports(self, verdict: str, count: int) -> None:
        """Count the reports of a newly settled batch that got `verdict`."""
        self._reports.labels(verdict).inc(count)

    def points_left_out(self, reason: str, count: int) -> None:
        """Count values of accepted reports that the projection leaves out; `reason` is one of its own."""
        self._left_out.labels(reason).inc(count)

    def render(self) -> bytes:
        """Everything, in Prometheus' text format."""
        if self._shared is None:
            return generate_latest(self.registry)
        self.refresh()
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone, path=str(self._shared))  # type: ignore[no-untyped-call]
        return generate_latest(everyone)
