"""What the backend measures, in Prometheus' terms.

Place in the flow: `app` makes one `Metrics`; the API's edge and the batch route count into it; `/metrics`
renders it. State that lives elsewhere (tree size, projector lag) is read when it is asked for, by `observe`.

Rules kept: a registry of its own, so two applications in one process don't mix; label values come from
bounded sets: route templates, known methods, status codes, verdict names.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_DURATION_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH_LEN_BUCKETS = (1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4.2e6)

Gauges = Callable[[], dict[str, tuple[str, float | None]]]


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
    """The backend's counters and histograms."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        self.registry.register(_Observed(read))

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
        return generate_latest(self.registry)
