"""Takes messages from the broker: refuses what is not a report of an enrolled device, drops what it has,
hands on the rest.

Place in the flow: called by the MQTT link for every message, synchronously; `commit` picks up what it
gathers. Does not wait, write or acknowledge. Rules kept: what is refused is counted by reason and never
acknowledged, so an honest device keeps it; nothing is gathered beyond a bound; a retained report is
refused, since no device sends one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from surge_gateway import counters as reasons
from surge_gateway.clock import Clock
from surge_gateway.counters import Counters
from surge_gateway.dedupe import CONFLICT, DUPLICATE, NEW, BootSeqs
from surge_gateway.devices import Device, Devices
from surge_gateway.envelope_check import Refused, check_report
from surge_gateway.quota import Quota
from surge_wire.errors import DecodeError
from surge_wire.topics import REPORT, STATE_ONLINE, parse_topic

RECORD_OVERHEAD_LEN = 200  # what a gathered report takes in memory beside its bytes, roughly
# Per device and boot, until the next acks go out; a repeat beyond it gets its ack when it comes again.
REPEATS_REMEMBERED_MAX = 64


@dataclass(slots=True)
class Group:
    """Reports that become durable together: `records` for the store, `owners` for what follows, in step."""

    records: list[tuple[int, bytes]] = field(default_factory=list)
    owners: list[tuple[Device, BootSeqs, int]] = field(default_factory=list)
    length: int = 0


class Ingress:
    """`on_work` is called when the first report or repeated ack waits; `on_device(device)` when a device
    appears.
    """

    def __init__(
        self,
        devices: Devices,
        quota: Quota,
        clock: Clock,
        counters: Counters,
        *,
        report_len_max: int,
        pending_len_max: int,
    ) -> None:
        self._by_topic = devices.by_report_topic
        self._by_state_topic = devices.by_state_topic
        self._quota = quota
        self._clock = clock
        self._counters = counters
        self._report_len_max = report_len_max
        self._pending_len_max = pending_len_max
        self._group = Group()
        self.held_len = 0  # of a group that `commit` took and has not made durable yet
        self.acks_wanted: dict[tuple[Device, BootSeqs], list[int]] = {}
        self.refuse_all: str | None = None  # a reason, while nothing can be taken
        self.on_work: Callable[[], None] = _nothing
        self.on_device: Callable[[Device], None] = _nothing_for_device

    def on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        """Every message from the broker. Raises nothing."""
        device = self._by_topic.get(topic)
        if device is None:
            self._on_other(topic, payload, retained)
            return
        self._counters.received += 1
        try:
            self._take(device, payload, retained)
        except Refused as refused:
            self._counters.refused[refused.reason] += 1

    def _take(self, device: Device, payload: bytes, retained: bool) -> None:
        if retained:
            raise Refused(reasons.RETAINED)
        if self.refuse_all is not None:
            raise Refused(self.refuse_all)
        if not self._quota.take(device, self._clock.monotonic_s()):
            raise Refused(reasons.OVER_QUOTA)
        report = check_report(payload, device.envelope_start, self._report_len_max)
        now_ms = self._clock.now_ms()
        device.last_seen_ms = now_ms
        if report.command_counter is not None and report.command_counter > device.command_counter:
            device.command_counter = report.command_counter
        if not device.online:
            device.online = True
            self.on_device(device)
        seq = report.seq
        seqs = device.seqs.boot(report.boot)
        fingerprint = hash(payload)
        judgement = seqs.judge(seq, fingerprint)
        if judgement == NEW:
            if self._group.length + self.held_len > self._pending_len_max:
                raise Refused(reasons.SPOOL_BUSY)
            seqs.note_pending(seq, fingerprint)
        elif judgement == CONFLICT:
            if self._group.length + self.held_len > self._pending_len_max:
                raise Refused(reasons.SPOOL_BUSY)
            self._counters.conflicting += 1
        else:
            self._counters.duplicates += 1
            if judgement == DUPLICATE:
                repeated = self.acks_wanted.setdefault((device, seqs), [])
                if len(repeated) < REPEATS_REMEMBERED_MAX:
                    repeated.append(seq)
                self.on_work()
            return
        group = self._group
        group.records.append((now_ms, payload))
        group.owners.append((device, seqs, seq))
        group.length += len(payload) + RECORD_OVERHEAD_LEN
        if len(group.records) == 1:
            self.on_work()

    def _on_other(self, topic: str, payload: bytes, retained: bool) -> None:
        device = self._by_state_topic.get(topic)
        if device is not None:
            online = payload == STATE_ONLINE
            if online and not device.online:
                device.online = True
                self.on_device(device)
            device.online = online
            return
        self._counters.received += 1
        try:
            known = parse_topic(topic)[1] == REPORT
        except DecodeError:
            known = False
        self._counters.refused[reasons.UNKNOWN_DEVICE if known else reasons.TOPIC_INVALID] += 1

    def take_group(self) -> Group:
        """What has gathered; gathering starts afresh."""
        group, self._group = self._group, Group()
        self.held_len = group.length
        return group


def _nothing() -> None:
    """Until `commit` is there to be told."""


def _nothing_for_device(_device: Device) -> None:
    """Until `dispatch` is there to be told."""
