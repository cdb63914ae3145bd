"""The MQTT packets of the simulator: cut anywhere, bounded, and read by another implementation."""

import pytest

from surge_cli.simulate import packets
from surge_cli.simulate.packets import PACKET_LEN_MAX, PacketReader, ProtocolError, decode_publish

STREAM = [
    packets.packet(packets.CONNACK, b"\x00\x00"),
    packets.packet(0x90, b"\x00\x01\x00\x01"),
    packets.encode_publish(packets.field(b"surge/1/x/ack"), b"a" * 200),
    packets.packet(packets.PINGRESP, b""),
    packets.encode_publish_qos1(packets.field(b"surge/1/x/command"), b"b", 77),
]


def test_a_stream_is_read_alike_wherever_it_is_cut() -> None:
    data = b"".join(STREAM)
    whole = PacketReader().feed(data)
    assert [first & 0xF0 for first, _ in whole] == [0x20, 0x90, 0x30, 0xD0, 0x30]
    for cut in range(len(data) + 1):
        reader = PacketReader()
        assert reader.feed(data[:cut]) + reader.feed(data[cut:]) == whole
    reader = PacketReader()
    assert [one for byte in data for one in reader.feed(bytes((byte,)))] == whole


def test_a_publish_comes_apart() -> None:
    ((first, body),) = PacketReader().feed(STREAM[2])
    assert decode_publish(first, body) == (b"surge/1/x/ack", b"a" * 200, 0)
    ((first, body),) = PacketReader().feed(STREAM[4])
    assert decode_publish(first, body) == (b"surge/1/x/command", b"b", 77)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, PACKET_LEN_MAX])
def test_lengths_are_written_as_they_are_read(length: int) -> None:
    assert PacketReader().feed(packets.packet(0x30, bytes(length))) == [(0x30, bytes(length))]


def test_too_much_is_refused_before_it_is_there() -> None:
    with pytest.raises(ProtocolError):
        PacketReader().feed(packets.packet(0x30, bytes(PACKET_LEN_MAX + 1))[:6])
    with pytest.raises(ProtocolError):
        PacketReader().feed(b"\x30\xff\xff\xff\xff\x01")
    for body in (b"", b"\x00", b"\x00\x09abc"):
        with pytest.raises(ProtocolError):
            decode_publish(0x30, body)
    with pytest.raises(ProtocolError):
        decode_publish(0x32, b"\x00\x01a")


def test_connect_has_the_bytes_of_the_standard() -> None:
    found = packets.encode_connect(b"id", b"user", b"pw", 30, (b"t", b"off"))
    assert found == bytes.fromhex(
        "1020" + "00044d515454" + "04" + "ee" + "001e" + "00026964" + "000174" + "00036f6666" + "000475736572"
        "00027077"
    )
