"""The other side of the device: takes its reports as a gateway does, checks each as the backend does, and
acknowledges when the test says so."""

import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from private_broker import GATEWAY_ID, GATEWAY_PASSWORD, HOST

from surge_wire import topics
from surge_wire.ack import Ack, encode_ack
from surge_wire.command import Command, seal_command
from surge_wire.cose import mac_valid
from surge_wire.hkdf import INFO_COMMAND, INFO_REPORT, derive_key
from surge_wire.report import Report, decode_report, open_report
from surge_wire.units import is_registered

HANG_S = 120  # waiting this long means that something hangs; nothing is asserted about time
Name = tuple[int, int]  # boot, seq


class SmallGateway:
    """``arrivals`` are the names in the order they came, repetitions included; ``states`` what the device
    said.

    ``acking``: acknowledge each report as it comes, all of its boot that came so far.
    """

    def __init__(self, port: int, device: str, secret: bytes) -> None:
        self.arrivals: list[Name] = []
        self.envelopes: dict[Name, bytes] = {}
        self.reports: dict[Name, Report] = {}
        self.states: list[str] = []
        self.faults: list[str] = []
        self.connections = 0
        self.acking = False
        self.clock_offset_ms = 0
        self._ends: dict[int, int] = {}
        self._device = device
        self._report_key = derive_key(secret, INFO_REPORT)
        self._command_key = derive_key(secret, INFO_COMMAND)
        self._changed = threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=True)
        self._client.username_pw_set(GATEWAY_ID, GATEWAY_PASSWORD)
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_connect = lambda client, *_: client.subscribe(
            [(topics.ALL_REPORTS, 0), (topics.ALL_STATES, 0)]
        )
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.connect(HOST, port)
        self._client.loop_start()
        self.wait_until(lambda: self.connections > 0, "the gateway's subscription")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        assert self.faults == []

    def wait_until(self, true: Callable[[], Any], what: str) -> None:
        """Until ``true()`` after something came."""
        with self._changed:
            came = self._changed.wait_for(true, HANG_S)
        assert came, f"{what} never came; arrivals: {self.arrivals[-20:]}, states: {self.states}"

    def wait_for(self, name: Name) -> Report:
        self.wait_until(lambda: name in self.reports, f"report {name}")
        return self.reports[name]

    def count(self, name: Name) -> int:
        return self.arrivals.count(name)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.clock_offset_ms

    def ack(self, boot: int, *ranges: tuple[int, int]) -> None:
        self.publish(topics.ACK, encode_ack(Ack(boot, list(ranges), self.now_ms())))

    def ack_all(self, boot: int) -> None:
        """As far as the first hole."""
        end = self._ends.get(boot, 0)
        while (boot, end) in self.envelopes:
            end += 1
        self._ends[boot] = end
        if end:
            self.ack(boot, (0, end - 1))

    def command(
        self, counter: int, operation: int, arguments: dict[int, int] | None = None, **more: Any
    ) -> None:
        made = Command(counter, operation, arguments, **more)
        self.publish(topics.COMMAND, seal_command(self._device, self._command_key, made), qos=1)

    def publish(self, channel: str, payload: bytes, qos: int = 0) -> None:
        self._client.publish(topics.topic(self._device, channel), payload, qos)

    def _on_subscribe(self, *_: Any) -> None:
        with self._changed:
            self.connections += 1
            self._changed.notify_all()

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        with self._changed:
            try:
                self._take(message.topic, bytes(message.payload))
            except Exception as error:  # paho would swallow it
                self.faults.append(f"{message.topic}: {error!r}")
            self._changed.notify_all()

    def _take(self, topic: str, payload: bytes) -> None:
        device, channel = topics.parse_topic(topic)
        assert device == self._device
        if channel == topics.STATE:
            self.states.append(payload.decode())
            return
        said, opened = open_report(payload)
        assert said == device
        assert mac_valid(opened, self._report_key), "wrong MAC"
        report = decode_report(opened.payload)
        name = (report.boot, report.seq)
        self.arrivals.append(name)
        if name in self.envelopes:
            assert self.envelopes[name] == payload, f"other bytes under {name}"
        else:
            for record in report.records():
                assert is_registered(record.unit), record.unit
            self.envelopes[name] = payload
            self.reports[name] = report
        if self.acking:
            self.ack_all(report.boot)
