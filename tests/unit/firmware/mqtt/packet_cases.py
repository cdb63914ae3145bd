"""Cases for the MQTT packets, run by ``test_mqtt_cases`` on CPython and by MicroPython itself.

Plain functions named ``case_*``: one returns, or raises. Nothing here is beyond MicroPython.
"""

# MicroPython runs this file too, so it keeps to what that has.
# ruff: noqa: PT017, RUF005, UP031

import gc

from surge_device import mqtt_packets as packets
from surge_device.mqtt_errors import MqttEncodeError, MqttProtocolError
from surge_device.mqtt_parser import PacketParser
from surge_device.mqtt_topics import filter_fault, topic_fault, utf8_valid

CONNACK_OK = b"\x20\x02\x00\x00"
PINGRESP = b"\xd0\x00"
PUBLISH_0 = b"\x30\x09\x00\x03a/bhell"
PUBLISH_1 = b"\x3b\x08\x00\x03a/b\x12\x34!"  # retained, repeated, QoS 1
PUBACK = b"\x40\x02\xff\xff"
SUBACK = b"\x90\x05\x00\x07\x00\x01\x80"
LONG = b"\x31" + b"\xad\x02" + b"\x00\x01t" + bytes(range(256)) + b"x" * 42  # two length bytes: 301
STREAM = CONNACK_OK + PUBLISH_0 + PINGRESP + PUBLISH_1 + LONG + PUBACK + SUBACK
PACKETS = [
    (packets.CONNACK, False, 0),
    (packets.PUBLISH, "a/b", b"hell", 0, False, False, 0),
    (packets.PINGRESP,),
    (packets.PUBLISH, "a/b", b"!", 1, True, True, 0x1234),
    (packets.PUBLISH, "t", bytes(range(256)) + b"x" * 42, 0, True, False, 0),
    (packets.PUBACK, 0xFFFF),
    (packets.SUBACK, 7, b"\x00\x01\x80"),
]


def parse(data, size=None, limit=512):
    parser = PacketParser(limit)
    size = size or max(1, len(data))
    found = []
    for at in range(0, len(data), size):
        found += list(parser.feed(data[at : at + size]))
    return found


def expect(error, reason, call, *values):
    try:
        call(*values)
    except error as fault:
        assert reason in str(fault), "%r is not in %r" % (reason, str(fault))
        return
    raise AssertionError("no error; expected one with %r" % reason)


def case_every_kind_of_packet():
    assert parse(STREAM) == PACKETS


def case_every_cut_of_every_packet():
    for size in range(1, 40):
        assert parse(STREAM, size) == PACKETS, size
    for cut in range(len(STREAM) + 1):
        parser = PacketParser(512)
        found = list(parser.feed(STREAM[:cut])) + list(parser.feed(STREAM[cut:]))
        assert found == PACKETS, cut


def case_random_portions():
    state = 1
    for _ in range(200):
        parser = PacketParser(512)
        at, found = 0, []
        while at < len(STREAM):
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            size = state >> 16 & 63  # 0 included
            found += list(parser.feed(memoryview(STREAM)[at : at + size]))
            at += size
        assert found == PACKETS


def case_nothing_comes_before_the_last_byte():
    at = 0
    for packet in (CONNACK_OK, PUBLISH_0, PINGRESP, PUBLISH_1, LONG, PUBACK, SUBACK):
        assert parse(packet[:-1]) == []
        assert len(parse(packet)) == 1
        at += len(packet)
    assert at == len(STREAM)


MALFORMED = (
    (b"\x00", "packet type 0"),
    (b"\x10", "packet type 1 "),
    (b"\x50", "packet type 5 "),  # PUBREC: QoS 2
    (b"\x82", "packet type 8 "),
    (b"\xb0", "packet type 11 "),
    (b"\xe0", "packet type 14 "),
    (b"\xf0", "packet type 15 "),
    (b"\x21", "reserved flags"),
    (b"\x42", "reserved flags"),
    (b"\x92", "reserved flags"),
    (b"\xd1", "reserved flags"),
    (b"\x36", "QoS 3"),
    (b"\x34", "QoS 2"),
    (b"\x38", "DUP with QoS 0"),
    (b"\x30\xff\xff\xff\xff", "more than 4 bytes"),
    (b"\x30\x80\x80\x80\x80\x01", "more than 4 bytes"),
    (b"\x20\x01", "remaining length of 1"),
    (b"\x20\x03", "remaining length of 3"),
    (b"\x40\x00", "remaining length of 0"),
    (b"\x40\x03", "remaining length of 3"),
    (b"\xd0\x01", "remaining length of 1"),
    (b"\x90\x02", "remaining length of 2"),
    (b"\x90\x81\x04", "answers nothing"),
    (b"\x30\x02", "remaining length of 2"),
    (b"\x20\x02\x02\x00", "connack has flags 2"),
    (b"\x20\x02\x01\x05", "connack has flags 1 with code 5"),
    (b"\x20\x02\x00\x06", "reserved code 6"),
    (b"\x20\x02\x00\xff", "reserved code 255"),
    (b"\x40\x02\x00\x00", "packet id is 0"),
    (b"\x90\x03\x00\x00\x00", "packet id is 0"),
    (b"\x90\x03\x00\x01\x03", "reserved code 3"),
    (b"\x90\x04\x00\x01\x00\x81", "reserved code 129"),
    (b"\x32\x05\x00\x01a\x00\x00", "packet id is 0"),
    (b"\x32\x04\x00\x01a\x00", "ends inside"),
    (b"\x30\x03\x00\x02a", "ends inside"),
    (b"\x30\x03\xff\xffa", "ends inside"),
    (b"\x30\x03\x00\x00a", "topic is empty"),
    (b"\x30\x03\x00\x01+", "wildcard"),
    (b"\x30\x05\x00\x03a/#", "wildcard"),
    (b"\x30\x04\x00\x02a\x00", "has a NUL"),
    (b"\x30\x03\x00\x01\xff", "is not UTF-8"),
    (b"\x30\x05\x00\x03\xed\xa0\x80", "is not UTF-8"),
    (b"\x30\x04\x00\x02\xc0\x80", "is not UTF-8"),
    (b"\x30\x04\x00\x02a\xc3", "is not UTF-8"),
)


def case_malformed_packets():
    for data, reason in MALFORMED:
        expect(MqttProtocolError, reason, parse, data)
        expect(MqttProtocolError, reason, parse, data, 1)
        expect(MqttProtocolError, reason, parse, PUBLISH_0 + data)


def case_a_failed_parser_stays_failed_until_reset():
    parser = PacketParser(512)
    expect(MqttProtocolError, "packet type 0", list, parser.feed(b"\x00"))
    expect(MqttProtocolError, "packet type 0", list, parser.feed(CONNACK_OK))
    parser.reset()
    assert list(parser.feed(CONNACK_OK)) == [(packets.CONNACK, False, 0)]


def case_any_bytes_parse_or_are_a_protocol_error():
    state = 7
    for _ in range(300):
        data = bytearray(STREAM[:60])
        for _ in range(3):
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            data[(state >> 8) % len(data)] = state >> 20 & 255
        try:
            parse(bytes(data), 1 + state % 9, 128)
        except MqttProtocolError as fault:
            assert fault.reason


def case_too_long_packets_are_skipped_and_counted():
    start = b"\x00\x03a/b\x00\x09"
    rest_len = 100000
    length = len(start) + rest_len
    header = bytes([0x32, length & 127 | 128, length >> 7 & 127 | 128, length >> 14])
    parser = PacketParser(128)
    found = list(parser.feed(PUBLISH_0 + header + start))
    filler = b"z" * 1000
    for _ in range(rest_len // len(filler)):
        found += list(parser.feed(filler))
    found += list(parser.feed(PUBLISH_1))
    assert found == [PACKETS[1], (packets.PUBLISH, "a/b", None, 1, False, False, 9), PACKETS[3]], found
    assert parser.skipped == 1


def case_a_too_long_topic_hides_its_packet_id():
    topic = b"t" * 200
    found = parse(b"\x32\xcf\x01\x00\xc8" + topic + b"\x00\x09..." + PINGRESP, 7, 128)
    assert found == [(packets.PUBLISH, "", None, 1, False, False, 0), (packets.PINGRESP,)], found


def case_the_limit_is_exact():
    exact = b"\x30\x80\x01\x00\x01t" + b"p" * 125
    assert parse(exact, None, 128)[0][2] == b"p" * 125
    assert parse(b"\x30\x81\x01\x00\x01t" + b"p" * 126, None, 128)[0][2] is None


def case_skipping_does_not_allocate():
    if not hasattr(gc, "mem_alloc"):
        return  # CPython has no such figure; MicroPython runs this too
    parser = PacketParser(128)
    list(parser.feed(b"\x30\x80\x80\x80\x01\x00\x01t"))  # 2 MiB to come
    portion = memoryview(bytes(1024))
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(64):
        for _ in parser.feed(portion):
            raise AssertionError("nothing is complete")
    per_portion = (gc.mem_alloc() - before) / 64
    gc.enable()
    assert per_portion < 1024 / 2, per_portion  # a generator and a view, not the data


def case_publish_round_trips():
    buffer = bytearray(512)
    for payload_len in list(range(140)) + [500]:
        payload = bytes([payload_len & 255]) * payload_len
        for qos, retain, dup, number in ((0, False, False, 0), (1, True, True, 65535), (1, False, False, 1)):
            size = packets.encode_publish(buffer, "a/b", payload, qos, retain, dup, number)
            want = [(packets.PUBLISH, "a/b", payload, qos, retain, dup, number)]
            assert parse(bytes(buffer[:size]), 5) == want
    assert len(buffer) == 512


def case_publish_of_text_beyond_ascii():
    buffer = bytearray(64)
    size = packets.encode_publish(buffer, "caf\u00e9/\u20ac/\U0001f600", memoryview(b"1"))
    assert parse(bytes(buffer[:size]))[0][1] == "caf\u00e9/\u20ac/\U0001f600"


def case_puback_round_trip():
    buffer = bytearray(8)
    assert parse(bytes(buffer[: packets.encode_puback(buffer, 513)])) == [(packets.PUBACK, 513)]


def case_connect_bytes():
    buffer = bytearray(128)
    size = packets.encode_connect(buffer, "id")
    assert bytes(buffer[:size]) == b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02id"
    size = packets.encode_connect(buffer, "id", "u", "pw", 300, False, ("w/t", b"bye", 1, True))
    want = b"\x10\x1f\x00\x04MQTT\x04\xec\x01\x2c\x00\x02id\x00\x03w/t\x00\x03bye\x00\x01u\x00\x02pw"
    assert bytes(buffer[:size]) == want, bytes(buffer[:size])
    size = packets.encode_connect(buffer, "", "u", None, 0, True, ("w", b"", 0, False))
    assert bytes(buffer[:size]) == b"\x10\x14\x00\x04MQTT\x04\x86\x00\x00\x00\x00\x00\x01w\x00\x00\x00\x01u"


def case_subscribe_bytes():
    buffer = bytearray(64)
    size = packets.encode_subscribe(buffer, 10, [("a/+", 1), ("b/#", 0)])
    assert bytes(buffer[:size]) == b"\x82\x0e\x00\x0a\x00\x03a/+\x01\x00\x03b/#\x00"


def case_what_must_not_be_sent():
    buffer = bytearray(128)
    publish, connect, subscribe = packets.encode_publish, packets.encode_connect, packets.encode_subscribe
    for reason, call in (
        ("wildcard", lambda: publish(buffer, "a/+", b"")),
        ("wildcard", lambda: publish(buffer, "#", b"")),
        ("empty", lambda: publish(buffer, "", b"")),
        ("NUL", lambda: publish(buffer, "a\0b", b"")),
        ("not UTF-8", lambda: publish(buffer, b"\xff", b"")),
        ("qos", lambda: publish(buffer, "a", b"", 2)),
        ("qos", lambda: publish(buffer, "a", b"", 0, False, True)),
        ("packet id 0", lambda: publish(buffer, "a", b"", 1)),
        ("packet id 65536", lambda: publish(buffer, "a", b"", 1, False, False, 65536)),
        ("a packet of 129 bytes exceeds the limit of 128", lambda: publish(buffer, "a", b"x" * 124)),
        ("needs a user", lambda: connect(buffer, "id", None, "pw")),
        ("client id", lambda: connect(buffer, "", clean_session=False)),
        ("client id has a NUL", lambda: connect(buffer, "a\0")),
        ("keep-alive", lambda: connect(buffer, "id", keep_alive_s=65536)),
        ("will topic has a wildcard", lambda: connect(buffer, "id", will=("+", b"", 0, False))),
        ("will qos", lambda: connect(buffer, "id", will=("w", b"", 2, False))),
        ("user name has 65536 bytes", lambda: connect(buffer, "id", "u" * 65536)),
        ("names no topic", lambda: subscribe(buffer, 1, [])),
        ("qos must be 0 or 1", lambda: subscribe(buffer, 1, [("a", 2)])),
        ("whole level", lambda: subscribe(buffer, 1, [("a", 0), ("a+", 0)])),
        ("packet id 0", lambda: packets.encode_puback(buffer, 0)),
    ):
        expect(MqttEncodeError, reason, call)
    assert len(buffer) == 128


def case_an_exactly_full_buffer():
    buffer = bytearray(128)
    assert packets.encode_publish(buffer, "a", b"x" * 123) == 128


def case_topics_and_filters():
    assert topic_fault(b"surge/1/dabc/report") == ""
    assert topic_fault(b"/") == ""
    for good in (b"#", b"+", b"a/#", b"+/a/+", b"/", b"a//b", b"$SYS/#"):
        assert filter_fault(good) == "", good
    for bad in (b"", b"a#", b"#/a", b"a/#/b", b"a+", b"+a/b", b"a\0", b"\xc3"):
        assert filter_fault(bad), bad


def case_utf8_is_strict_on_both_interpreters():
    for good in (
        b"",
        b"a",
        b"\xc2\x80",
        b"\xe0\xa0\x80",
        b"\xed\x9f\xbf",
        b"\xef\xbf\xbf",
        b"\xf4\x8f\xbf\xbf",
    ):
        assert utf8_valid(good), good
    for bad in (
        b"\x80",
        b"\xc1\xbf",
        b"\xc2",
        b"\xc2a",
        b"\xe0\x9f\xbf",
        b"\xe1\x80",
        b"\xed\xbf\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff",
    ):
        assert not utf8_valid(bad), bad
