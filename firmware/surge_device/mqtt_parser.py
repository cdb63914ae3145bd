"""The parser of what an MQTT 3.1.1 broker sends: bytes in, packets out.

Place in the flow: ``mqtt_link`` feeds it whatever the socket gave, in any portions, and hands its packets
to ``mqtt``. Pure: no I/O, no clock. It does not know what was asked: matching answers to requests is
``mqtt``'s work.

Packets are tuples whose first item is the type; a payload of None: too long, skipped.
    (CONNACK, session_present, return_code)
    (PUBLISH, topic, payload, qos, retain, dup, packet_id)
    (PUBACK, packet_id)
    (SUBACK, packet_id, codes)
    (PINGRESP,)

Rules: one body buffer, made once; a body that doesn't fit is drained without allocating, counted in
``skipped`` and reported without its payload, so that a QoS 1 one can still be acknowledged (it would come
again for ever). Anything that 3.1.1 forbids raises ``MqttProtocolError``, whatever the bytes; after that
the parser raises until ``reset``.
"""

from surge_device.mqtt_errors import REFUSALS, MqttProtocolError
from surge_device.mqtt_packets import (
    CONNACK,
    PACKET_LEN_MAX,
    PINGRESP,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE_REFUSED,
    const,
)
from surge_device.mqtt_topics import topic_fault

_AT_TYPE = const(0)
_AT_LENGTH = const(1)
_AT_BODY = const(2)

_LENGTH_SHIFT_MAX = const(21)  # the fourth byte of a remaining length is the last, 2.2.3

# Types a broker may send to this client, with the remaining lengths they may have (the largest -1: any).
_LENGTHS = {CONNACK: (2, 2), PUBLISH: (3, -1), PUBACK: (2, 2), SUBACK: (3, -1), PINGRESP: (0, 0)}


class PacketParser:
    """``skipped`` counts the packets too long for ``packet_len_max`` bytes of body."""

    def __init__(self, packet_len_max: int = PACKET_LEN_MAX) -> None:
        self._body = bytearray(packet_len_max)
        self._view = memoryview(self._body)  # the buffer is never resized, so the view stays good
        self.skipped = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was read: for a new connection. Counts stay."""
        self._state = _AT_TYPE
        self._first = 0
        self._length = 0
        self._shift = 0
        self._kept = 0
        self._missing = 0
        self._failed = None

    def feed(self, data):
        """Yield the packets that ``data`` (any portion of the stream) completes. Exhaust it before feeding
        again.
        """
        if self._failed:
            raise MqttProtocolError(self._failed)
        try:
            view = memoryview(data)
            at, end = 0, len(view)
            while at < end:
                if self._state == _AT_BODY:
                    taken = min(end - at, self._missing)
                    kept = min(taken, len(self._body) - self._kept)
                    if kept > 0:
                        self._view[self._kept : self._kept + kept] = view[at : at + kept]
                        self._kept += kept
                    self._missing -= taken
                    at += taken
                else:
                    self._header_byte(view[at])
                    at += 1
                if self._state == _AT_BODY and not self._missing:
                    self._state = _AT_TYPE
                    yield self._packet()
        except MqttProtocolError as fault:
            self._failed = fault.reason
            raise

    def _header_byte(self, byte: int) -> None:
        """The fixed header, 2.2."""
        if self._state == _AT_TYPE:
            kind, flags = byte >> 4, byte & 15
            if kind not in _LENGTHS:
                raise MqttProtocolError("packet type %d is not for this client" % kind)
            if kind != PUBLISH and flags:
                raise MqttProtocolError("reserved flags of packet type %d are not 0" % kind)  # 2.2.2
            if kind == PUBLISH and flags & 6 == 6:
                raise MqttProtocolError("publish has QoS 3")  # 3.3.1.2
            if kind == PUBLISH and flags & 4:
                raise MqttProtocolError("publish has QoS 2, which was not asked for")  # 3.8.4
            if kind == PUBLISH and flags & 8 and not flags & 6:
                raise MqttProtocolError("publish has DUP with QoS 0")  # 3.3.1.1
            self._first, self._state, self._length, self._shift = byte, _AT_LENGTH, 0, 0
            return
        self._length |= (byte & 127) << self._shift
        if byte & 128:
            if self._shift == _LENGTH_SHIFT_MAX:
                raise MqttProtocolError("remaining length has more than 4 bytes")
            self._shift += 7
            return
        kind = self._first >> 4
        shortest, longest = _LENGTHS[kind]
        if self._length < shortest or -1 < longest < self._length:
            raise MqttProtocolError("packet type %d has a remaining length of %d" % (kind, self._length))
        if kind == SUBACK and self._length > len(self._body):
            raise MqttProtocolError("suback of %d bytes answers nothing we asked" % self._length)
        self._kept, self._missing, self._state = 0, self._length, _AT_BODY

    def _packet(self):
        kind = self._first >> 4
        if kind == PUBLISH:
            return self._publish()
        if kind == PINGRESP:
            return (PINGRESP,)
        if kind == CONNACK:
            return self._connack()
        packet_id = self._id_at(0)
        if kind == PUBACK:
            return (PUBACK, packet_id)
        codes = bytes(self._view[2 : self._length])
        for code in codes:
            if code > 2 and code != SUBSCRIBE_REFUSED:
                raise MqttProtocolError("suback has the reserved code %d" % code)  # 3.9.3
        return (SUBACK, packet_id, codes)

    def _connack(self):
        """3.2.2: reserved bits are 0, a refusal has no session, codes above 5 are reserved."""
        flags, code = self._body[0], self._body[1]
        if flags > 1 or flags and code:
            raise MqttProtocolError("connack has flags %d with code %d" % (flags, code))
        if code >= len(REFUSALS):
            raise MqttProtocolError("connack has the reserved code %d" % code)
        return (CONNACK, flags == 1, code)

    def _publish(self):
        """3.3.2: topic name, packet id when QoS is not 0, then the payload."""
        qos = self._first >> 1 & 3
        topic_end = 2 + (self._body[0] << 8 | self._body[1])
        body_at = topic_end + (2 if qos else 0)
        if body_at > self._length:
            raise MqttProtocolError("publish ends inside its topic or packet id")
        too_long = self._length > len(self._body)
        self.skipped += too_long
        topic, packet_id, payload = "", 0, None
        if body_at <= self._kept:
            name = bytes(self._view[2:topic_end])
            fault = topic_fault(name)
            if fault:
                raise MqttProtocolError(fault)
            topic = name.decode()
            if qos:
                packet_id = self._id_at(topic_end)
            if not too_long:
                payload = bytes(self._view[body_at : self._length])
        return (PUBLISH, topic, payload, qos, bool(self._first & 1), bool(self._first & 8), packet_id)

    def _id_at(self, at: int) -> int:
        packet_id = self._body[at] << 8 | self._body[at + 1]
        if not packet_id:
            raise MqttProtocolError("packet id is 0")  # 2.3.1
        return packet_id
