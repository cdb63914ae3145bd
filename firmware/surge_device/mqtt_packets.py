"""MQTT 3.1.1 packets that a client sends.

Place in the flow: ``mqtt`` calls the encoders here, ``mqtt_link`` writes what they made, ``mqtt_parser``
reads the answers. Section numbers are those of the OASIS standard MQTT 3.1.1.

What it does not do: no I/O, no clock, no state; no QoS 2, UNSUBSCRIBE or anything of MQTT 5.

Rules: an encoder writes one whole packet at the start of a buffer that the caller made once, never resizes
it, and returns the packet's length. A value that the standard forbids is an ``MqttEncodeError``, before a
byte is sent.
"""

from surge_device.mqtt_errors import MqttEncodeError
from surge_device.mqtt_topics import filter_fault, text_fault, topic_fault

try:
    from micropython import const
except ImportError:  # CPython, in unit tests

    def const(value):
        return value


# A report of 4,096 bytes, its topic and header. A longer packet is refused (outbound) or skipped (inbound).
PACKET_LEN_MAX = const(4608)
TEXT_LEN_MAX = const(65535)  # any string or will payload, 1.5.3
PACKET_ID_MAX = const(65535)
KEEP_ALIVE_MAX_S = const(65535)

PINGREQ = b"\xc0\x00"  # 3.12, the whole packet
DISCONNECT = b"\xe0\x00"  # 3.14

SUBSCRIBE_REFUSED = const(0x80)  # 3.9.3

# Packet types, 2.2.1
CONNECT = const(1)
CONNACK = const(2)
PUBLISH = const(3)
PUBACK = const(4)
SUBSCRIBE = const(8)
SUBACK = const(9)
PINGRESP = const(13)


def octets(text, what: str) -> bytes:
    """A str or bytes as bytes that fit a field with a two-byte length (1.5.3)."""
    try:
        data = text.encode() if isinstance(text, str) else text
    except UnicodeError:
        raise MqttEncodeError("%s is not UTF-8" % what)
    if len(data) > TEXT_LEN_MAX:
        raise MqttEncodeError("%s has %d bytes, more than %d" % (what, len(data), TEXT_LEN_MAX))
    return data


def _text(text, what: str) -> bytes:
    data = octets(text, what)
    fault = text_fault(data)
    if fault:
        raise MqttEncodeError(what + " " + fault)
    return data


def _begin(buffer: bytearray, first: int, remaining: int) -> int:
    """Write the fixed header (2.2, remaining length by 2.2.3), return the offset after it."""
    header_len = 2 if remaining < 128 else 3 if remaining < 16384 else 4 if remaining < 2097152 else 5
    if header_len + remaining > len(buffer):
        raise MqttEncodeError(
            "a packet of %d bytes exceeds the limit of %d" % (header_len + remaining, len(buffer))
        )
    buffer[0] = first
    at = 1
    while True:
        buffer[at] = remaining & 0x7F | (0x80 if remaining > 127 else 0)
        remaining >>= 7
        at += 1
        if not remaining:
            return at


def _put_int(buffer: bytearray, at: int, value: int) -> int:
    buffer[at] = value >> 8
    buffer[at + 1] = value & 0xFF
    return at + 2


def _put_text(buffer: bytearray, at: int, data: bytes) -> int:
    at = _put_int(buffer, at, len(data))
    buffer[at : at + len(data)] = data
    return at + len(data)


def _check_id(packet_id: int) -> None:
    if not 0 < packet_id <= PACKET_ID_MAX:
        raise MqttEncodeError("packet id %d is not between 1 and %d" % (packet_id, PACKET_ID_MAX))  # 2.3.1


def encode_publish(buffer: bytearray, topic, payload, qos=0, retain=False, dup=False, packet_id=0) -> int:
    """3.3. ``topic``: str, or bytes to save an allocation; ``packet_id`` is used for QoS 1 only."""
    name = octets(topic, "topic")
    fault = topic_fault(name)
    if fault:
        raise MqttEncodeError(fault)
    if qos not in (0, 1) or dup and not qos:
        raise MqttEncodeError("qos must be 0 or 1, and dup goes with qos 1 only")
    if qos:
        _check_id(packet_id)
    first = PUBLISH << 4 | (8 if dup else 0) | qos << 1 | (1 if retain else 0)
    at = _put_text(buffer, _begin(buffer, first, 2 + len(name) + 2 * qos + len(payload)), name)
    if qos:
        at = _put_int(buffer, at, packet_id)
    buffer[at : at + len(payload)] = payload
    return at + len(payload)


def encode_puback(buffer: bytearray, packet_id: int) -> int:
    """3.4."""
    _check_id(packet_id)
    return _put_int(buffer, _begin(buffer, PUBACK << 4, 2), packet_id)


def encode_subscribe(buffer: bytearray, packet_id: int, topics) -> int:
    """3.8. ``topics``: (filter, qos) pairs, at least one."""
    _check_id(packet_id)
    if not topics:
        raise MqttEncodeError("a subscription names no topic")
    filters = [(octets(topic, "filter"), qos) for topic, qos in topics]
    for name, qos in filters:
        fault = filter_fault(name)
        if fault or qos not in (0, 1):
            raise MqttEncodeError(fault or "a subscription's qos must be 0 or 1")
    remaining = 2 + sum([3 + len(name) for name, _ in filters])
    at = _put_int(buffer, _begin(buffer, SUBSCRIBE << 4 | 2, remaining), packet_id)  # flags 0010 by 3.8.1
    for name, qos in filters:
        at = _put_text(buffer, at, name)
        buffer[at] = qos
        at += 1
    return at


def encode_connect(
    buffer: bytearray, client_id, user=None, password=None, keep_alive_s=60, clean_session=True, will=None
) -> int:
    """3.1. ``will``: (topic, payload, qos, retain) or None; ``keep_alive_s`` 0 turns the broker's check
    off.
    """
    if password is not None and user is None:
        raise MqttEncodeError("a password needs a user name")  # 3.1.2.9
    if not client_id and not clean_session:
        raise MqttEncodeError("a kept session needs a client id")  # 3.1.3.1
    if not 0 <= keep_alive_s <= KEEP_ALIVE_MAX_S:
        raise MqttEncodeError("keep-alive of %d s is not between 0 and %d" % (keep_alive_s, KEEP_ALIVE_MAX_S))
    flags = 2 if clean_session else 0
    fields = [_text(client_id, "client id")]
    if will:
        topic, payload, qos, retain = will
        fields += [octets(topic, "will topic"), octets(payload, "will payload")]
        fault = topic_fault(fields[1])
        if fault or qos not in (0, 1):
            raise MqttEncodeError("will " + (fault or "qos must be 0 or 1"))
        flags |= 4 | qos << 3 | (0x20 if retain else 0)
    if user is not None:
        fields.append(_text(user, "user name"))
        flags |= 0x80
    if password is not None:
        fields.append(octets(password, "password"))
        flags |= 0x40
    remaining = 10 + sum([2 + len(field) for field in fields])
    at = _put_text(buffer, _begin(buffer, CONNECT << 4, remaining), b"MQTT")
    buffer[at] = 4  # protocol level of 3.1.1, 3.1.2.2
    buffer[at + 1] = flags
    at = _put_int(buffer, at + 2, keep_alive_s)
    for field in fields:
        at = _put_text(buffer, at, field)
    return at
