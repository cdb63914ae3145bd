"""What the gateway is doing, for people and for monitoring.

Place in the flow: reads all parts, changes none. `snapshot` is what `/status` shows and the demo's table
reads; `metrics` makes Prometheus series of it. Rule kept: no secrets, and no label that a device could
invent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from surge_gateway.clock import Clock
from surge_gateway.counters import Counters
from surge_gateway.devices import Devices
from surge_gateway.dispatch import Dispatch
from surge_gateway.log_watch import LogWatch
from surge_gateway.store import Store
from surge_gateway.uplink import HALTED, SENDING, Uplink

DEVICES_SHOWN_MAX = 1000  # further devices are counted, not listed


@dataclass(frozen=True)
class BrokerState:
    """`mode` is embedded or external."""

    mode: str
    connected: bool
    reconnects: int
    restarts: int
    acks_dropped: int


@dataclass(frozen=True)
class Status:
    """The parts that are looked at. `errors` gives each part's last one, empty where all is well."""

    gateway_id: str
    started_ms: int
    clock: Clock
    counters: Counters
    devices: Devices
    store: Store
    uplink: Uplink
    watch: LogWatch
    dispatch: Dispatch
    broker: Callable[[], BrokerState]
    errors: Callable[[], list[str]]
    disk_error: Callable[[], str]  # why reports can't be stored now

    def waiting_for(self) -> list[str]:
        """What keeps reports from flowing; empty while they can."""
        waiting = []
        if not self.broker().connected:
            waiting.append("broker")
        if self.uplink.state != SENDING:
            waiting.append("backend")
        if self.disk_error():
            waiting.append("disk")
        return waiting

    def health(self) -> dict[str, Any]:
        """`/healthz`: the process lives; `status` says how well."""
        waiting = self.waiting_for()
        bad = self.uplink.state == HALTED or bool(self.watch.alarm)
        return {"status": "halted" if bad else "waiting" if waiting else "ok", "waiting_for": waiting}

    def snapshot(self) -> dict[str, Any]:
        """`/status`."""
        counters, store, broker = self.counters, self.store, self.broker()
        devices = list(self.devices)
        trusted = self.watch.trusted
        return {
            "gateway_id": self.gateway_id,
            "now_ms": self.clock.now_ms(),
            "started_ms": self.started_ms,
            **self.health(),
            "broker": {
                "mode": broker.mode,
                "connected": broker.connected,
                "reconnects": broker.reconnects,
                "restarts": broker.restarts,
                "acks_dropped": broker.acks_dropped,
            },
            "devices": {
                "enrolled": sum(device.enrolled for device in devices),
                "online": sum(device.online for device in devices),
                "list": [
                    {
                        "device_id": device.device_id,
                        "online": device.online,
                        "last_seen_ms": device.last_seen_ms or None,
                        "stored": device.stored,
                    }
                    for device in devices[:DEVICES_SHOWN_MAX]
                ],
            },
            "reports": {
                "received": counters.received,
                "stored": counters.stored,
                "duplicates": counters.duplicates,
                "conflicting": counters.conflicting,
                "refused": dict(counters.refused),
                "confirmed": counters.reports_confirmed,
            },
            "acks_sent": counters.acks,
            "spool": {
                "bytes": store.spool.length,
                "waiting": store.waiting_count,
                "full": store.spool.full,
                "failed_appends": store.spool.failed_appends,
                "damaged_spans": store.quarantine.spans,
            },
            "batches": {
                "sealed": counters.batches_sealed,
                "sent": counters.batches_sent,
                "confirmed": counters.batches_confirmed,
                "backlog": store.sealed_count,
                "receipts_refused": counters.receipts_refused,
            },
            "commands": {"waiting": self.dispatch.waiting_count, "published": counters.commands_published},
            "uplink": {"state": self.uplink.state},
            "log": {"tree_size": trusted.size if trusted else 0, "alarm": self.watch.alarm},
            "errors": self.errors(),
        }
