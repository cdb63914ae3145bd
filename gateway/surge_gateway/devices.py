"""What the gateway knows about each device while it runs.

Place in the flow: one `Device` per enrolled device, found by its report topic in a single look-up; ingress,
acks, dispatch and status share it. Does not keep anything across restarts: the registry's cache and the
spool do.
"""

from collections.abc import Iterator

from surge_gateway.dedupe import DeviceSeqs
from surge_wire.cose import TAG_MAC0, profile_start
from surge_wire.topics import ACK, COMMAND, REPORT, STATE, topic


class Device:
    """`tokens` and `refilled_s` are the quota's bucket; `last_seen_ms` 0: not in this run."""

    __slots__ = (
        "ack_topic",
        "command_counter",
        "command_topic",
        "device_id",
        "enrolled",
        "envelope_start",
        "last_seen_ms",
        "online",
        "refilled_s",
        "seqs",
        "stored",
        "tokens",
    )

    def __init__(self, device_id: str, tokens: float) -> None:
        self.device_id = device_id
        self.envelope_start = profile_start(TAG_MAC0, device_id.encode())  # of every report of its
        self.ack_topic = topic(device_id, ACK)
        self.command_topic = topic(device_id, COMMAND)
        self.enrolled = False
        self.seqs = DeviceSeqs()
        self.tokens = tokens
        self.refilled_s = 0.0
        self.online = False
        self.last_seen_ms = 0
        self.stored = 0
        self.command_counter = 0


class Devices:
    """All devices, by id and by topic. At most as many as the registry and the spool name."""

    def __init__(self, burst: float) -> None:
        self._burst = burst
        self._all: dict[str, Device] = {}
        self.by_report_topic: dict[str, Device] = {}
        self.by_state_topic: dict[str, Device] = {}

    def __iter__(self) -> Iterator[Device]:
        return iter(list(self._all.values()))

    def find(self, device_id: str) -> Device | None:
        return self._all.get(device_id)

    def remember(self, device_id: str) -> Device:
        """The device, made if need be; made so, nothing is accepted from it yet."""
        found = self._all.get(device_id)
        if found is None:
            found = self._all[device_id] = Device(device_id, self._burst)
        return found

    def enrol(self, device_id: str) -> None:
        """From now on its reports are accepted."""
        device = self.remember(device_id)
        device.enrolled = True
        self.by_report_topic[topic(device_id, REPORT)] = device
        self.by_state_topic[topic(device_id, STATE)] = device

    def forget_durable(self) -> None:
        """What was on disk may not be: no device's report is a duplicate now."""
        for device in self._all.values():
            device.seqs.forget_durable()

    def remove(self, device_id: str) -> None:
        """From now on its reports are refused."""
        self._all.pop(device_id, None)
        self.by_report_topic.pop(topic(device_id, REPORT), None)
        self.by_state_topic.pop(topic(device_id, STATE), None)
