"""Prometheus series of the gateway's status.

Place in the flow: `status_server` renders them for `/metrics`. Made from a snapshot at each scrape, so the
hot path touches no metric object. Rule kept: labels come from fixed sets.
"""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

COUNTERS = (
    ("surge_gateway_reports_received", "Messages on report topics", ("reports", "received")),
    ("surge_gateway_reports_stored", "Reports made durable", ("reports", "stored")),
    ("surge_gateway_reports_duplicate", "Reports that were stored before", ("reports", "duplicates")),
    ("surge_gateway_reports_conflicting", "Known seq, other bytes", ("reports", "conflicting")),
    ("surge_gateway_reports_confirmed", "Reports that a verified receipt covers", ("reports", "confirmed")),
    ("surge_gateway_batches_sealed", "Batches made", ("batches", "sealed")),
    ("surge_gateway_batches_sent", "Attempts to send a batch", ("batches", "sent")),
    ("surge_gateway_batches_confirmed", "Batches with a verified receipt", ("batches", "confirmed")),
    ("surge_gateway_receipts_refused", "Answers that did not verify", ("batches", "receipts_refused")),
    ("surge_gateway_commands_published", "Commands published to devices", ("commands", "published")),
    ("surge_gateway_spool_damaged_spans", "Spans of the spool that don't check", ("spool", "damaged_spans")),
    ("surge_gateway_spool_failed_appends", "Group commits that failed", ("spool", "failed_appends")),
    ("surge_gateway_broker_reconnects", "Connections to the broker that were lost", ("broker", "reconnects")),
)
GAUGES = (
    ("surge_gateway_devices_enrolled", "Devices that may connect", ("devices", "enrolled")),
    ("surge_gateway_devices_online", "Devices that are connected", ("devices", "online")),
    ("surge_gateway_spool_bytes", "Bytes in the spool", ("spool", "bytes")),
    ("surge_gateway_reports_waiting", "Durable reports in no batch yet", ("spool", "waiting")),
    ("surge_gateway_batches_backlog", "Sealed batches without a receipt", ("batches", "backlog")),
    ("surge_gateway_broker_connected", "1 while connected to the broker", ("broker", "connected")),
    ("surge_gateway_log_tree_size", "Size of the last trusted log tree", ("log", "tree_size")),
)


class StatusCollector(Collector):
    """Reads a snapshot at each scrape."""

    def __init__(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot()
        for name, text, (section, key) in COUNTERS:
            yield CounterMetricFamily(name, text, value=snapshot[section][key])
        yield CounterMetricFamily("surge_gateway_acks_sent", "Ack messages", value=snapshot["acks_sent"])
        for name, text, (section, key) in GAUGES:
            yield GaugeMetricFamily(name, text, value=float(snapshot[section][key]))
        halted = snapshot["status"] == "halted"
        yield GaugeMetricFamily("surge_gateway_halted", "1 while a person must act", value=float(halted))
        refused = CounterMetricFamily("surge_gateway_reports_refused", "Reports not taken", labels=["reason"])
        for reason, count in snapshot["reports"]["refused"].items():
            refused.add_metric([reason], count)
        yield refused


def render_metrics(snapshot: Callable[[], dict[str, Any]]) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(snapshot))
    return generate_latest(registry)
