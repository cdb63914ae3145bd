"""MQTT 3.1.1 packets as a device sends and reads them.

Place in the flow: ``link`` writes what is encoded here and feeds what it reads to a `PacketReader`. Section
numbers are those of the OASIS standard. Pure. Does not check topics (ours are made from ids), and knows
neither QoS 2 nor UNSUBSCRIBE. Rule kept: a packet longer than PACKET_LEN_MAX raises ProtocolError before it
is gathered.
"""

import struct

PACKET_LEN_MAX = 16 * 1024  # a command is at most 1,024 bytes, an ack 256

CONNACK = 0x20
PUBLISH = 0x30
PUBACK = 0x40
SUBACK = 0x90
PINGRESP = 0xD0

PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
SUBSCRIBE_REFUSED = 0x80

_CLEAN_SESSION = 0x02
_WILL_QOS1_RETAINED = 0x04 | 0x08 | 0x20
_USER_AND_PASSWORD = 0x80 | 0x40


class ProtocolError(Exception):
    """The broker sent what MQTT 3.1.1 doesn't allow, or more than we take."""


def packet(kind: int, body: bytes) -> bytes:
    """A whole packet: fixed header (2.2) and ``body``."""
    length = len(body)
    if length < 128:
        return bytes((kind, length)) + body
    head = bytearray((kind,))
    while True:
        head.append(length & 0x7F | (0x80 if length > 127 else 0))
        length >>= 7
        if not length:
            return bytes(head) + body


def field(data: bytes) -> bytes:
    """A string or binary field with its length before it (1.5.3)."""
    return struct.pack("!H", len(data)) + data


def encode_connect(
    client_id: bytes, user: bytes, password: bytes, keep_alive_s: int, will: tuple[bytes, bytes] | None
) -> bytes:
    """3.1, with a clean session; ``will`` is a topic and a payload, at QoS 1 and retained."""
    flags = _CLEAN_SESSION | _USER_AND_PASSWORD
    body = field(client_id)
    if will is not None:
        flags |= _WILL_QOS1_RETAINED
        body += field(will[0]) + field(will[1])
    body += field(user) + field(password)
    return packet(0x10, field(b"MQTT") + bytes((4, flags)) + struct.pack("!H", keep_alive_s) + body)


def encode_publish(topic_field: bytes, payload: bytes) -> bytes:
    """3.3 at QoS 0; ``topic_field`` is made once by `field`."""
    return packet(PUBLISH, topic_field + payload)


def encode_publish_qos1(topic_field: bytes, payload: bytes, packet_id: int) -> bytes:
    """3.3 at QoS 1 and retained: what states are published with."""
    return packet(PUBLISH | 0x03, topic_field + struct.pack("!H", packet_id) + payload)


def encode_puback(packet_id: int) -> bytes:
    """3.4."""
    return packet(PUBACK, struct.pack("!H", packet_id))


def encode_subscribe(packet_id: int, filters: tuple[tuple[bytes, int], ...]) -> bytes:
    """3.8; pairs of filter and QoS."""
    body = b"".join(field(name) + bytes((qos,)) for name, qos in filters)
    return packet(0x82, struct.pack("!H", packet_id) + body)


def decode_publish(first: int, body: bytes) -> tuple[bytes, bytes, int]:
    """``(topic, payload, packet id)`` of a PUBLISH; the id is 0 at QoS 0. Raises ProtocolError."""
    if len(body) < 2:
        raise ProtocolError("PUBLISH without a topic")
    at = 2 + int.from_bytes(body[:2], "big")
    topic = body[2:at]
    packet_id = 0
    if first & 0x06:
        packet_id = int.from_bytes(body[at : at + 2], "big")
        at += 2
    if at > len(body):
        raise ProtocolError("PUBLISH ends in its header")
    return topic, body[at:], packet_id


class PacketReader:
    """Cuts a byte stream into packets, wherever the reads end."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """``(first byte, body)`` of every packet that is complete now. Raises ProtocolError."""
        if self._rest:
            data = self._rest + data
        found = []
        start = 0
        end = len(data)
        while end - start >= 2:
            length, at = _length(data, start + 1, end)
            if length is None:
                break
            if length > PACKET_LEN_MAX:
                raise ProtocolError(f"a packet of {length} bytes; at most {PACKET_LEN_MAX} are taken")
            if at + length > end:
                break
            found.append((data[start], data[at : at + length]))
            start = at + length
        self._rest = data[start:]
        return found


def _length(data: bytes, at: int, end: int) -> tuple[int | None, int]:
    """The remaining length (2.2.3) and the offset after it; None where it isn't all there."""
    length = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return length, at
        shift += 7
        if shift > 21:
            raise ProtocolError("a remaining length of more than 4 bytes")
    return None, at
