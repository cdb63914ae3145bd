"""Bounded queues for what the gateway sends.

Place in the flow: `link.publish` puts, the link's pump takes while the connection lets it. Pure: no clock, no
I/O.

Rules kept: QoS 0 (acks) drops the oldest when full and counts it: acks are cumulative, so a newer one covers
it. QoS 1 (commands) is refused when full, which the caller sees; what was sent and not acknowledged counts as
waiting, and goes first, in its old order, on the next connection. Commands go before acks.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

_PUBLISH = 0x30
_RETAIN = 0x01


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


def encode_publish_qos0(message: Outgoing) -> bytes:
    """The PUBLISH packet (MQTT 3.1.1 section 3.3) of a message at QoS 0."""
    topic = message.topic.encode()
    length = 2 + len(topic) + len(message.payload)
    head = bytearray((_PUBLISH | _RETAIN if message.retain else _PUBLISH,))
    while length > 127:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return b"".join((head, len(topic).to_bytes(2, "big"), topic, message.payload))


class OutgoingQueues:
    """The two queues. `dropped` and `refused` count what didn't fit."""

    def __init__(self, qos0_max: int, qos1_max: int, in_flight_max: int) -> None:
        self._qos0: deque[Outgoing] = deque()
        self._qos1: deque[Outgoing] = deque()
        self._qos0_max = qos0_max
        self._qos1_max = qos1_max
        self._in_flight_max = in_flight_max
        self.dropped = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._qos0) + len(self._qos1)

    def put(self, message: Outgoing, in_flight: int) -> bool:
        """Queues the message; False if it is QoS 1 and the `in_flight` unacknowledged leave no room."""
        if message.qos:
            if len(self._qos1) + in_flight >= self._qos1_max:
                self.refused += 1
                return False
            self._qos1.append(message)
            return True
        if len(self._qos0) >= self._qos0_max:
            self._qos0.popleft()
            self.dropped += 1
        self._qos0.append(message)
        return True

    def take(self, in_flight: int) -> Outgoing | None:
        """The next message that may be sent while `in_flight` are unacknowledged, or None."""
        if self._qos1 and in_flight < self._in_flight_max:
            return self._qos1.popleft()
        return self.take_qos0()

    def take_qos0(self) -> Outgoing | None:
        """The next QoS 0 message, or None."""
        return self._qos0.popleft() if self._qos0 else None

    def put_back(self, unacknowledged: Sequence[Outgoing]) -> None:
        """What a lost connection left unacknowledged, oldest first: it goes out before the rest."""
        self._qos1.extendleft(reversed(unacknowledged))
