"""The link against a broker that the test plays itself, byte by byte, on a real socket.

The contract suite has it against real brokers; here are the bytes that those never send.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from surge_gateway.mqtt import MqttLink, MqttSettings
from surge_gateway.mqtt.bounded_gmqtt import INCOMPLETE, MALFORMED, remaining_length
from surge_host.settings_values import Secret

CONNACK = b"\x20\x02\x00\x00"
WAIT_S = 60  # only so that a failing test ends


class Peer:
    """The broker's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def packet(self) -> tuple[int, bytes]:
        async with asyncio.timeout(WAIT_S):
            first, length = await self.reader.readexactly(2)
            shift = 7
            low = length
            length &= 0x7F
            while low & 0x80:
                low = (await self.reader.readexactly(1))[0]
                length |= (low & 0x7F) << shift
                shift += 7
            return first, await self.reader.readexactly(length)

    async def greet(self, granted: bytes = b"\x00\x00") -> None:
        """CONNECT and SUBSCRIBE answered."""
        first, _ = await self.packet()
        assert first == 0x10
        self.writer.write(CONNACK)
        first, body = await self.packet()
        assert first == 0x82
        self.writer.write(b"\x90" + bytes([2 + len(granted)]) + body[:2] + granted)


class Broker:
    """Listens on a port of its own and hands out the connections that come."""

    def __init__(self) -> None:
        self.peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._all: list[Peer] = []

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", port)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._all.append(Peer(reader, writer))
        self.peers.put_nowait(self._all[-1])

    async def next(self) -> Peer:
        async with asyncio.timeout(WAIT_S):
            return await self.peers.get()

    async def stop(self) -> None:
        self._server.close()
        for peer in self._all:
            peer.writer.transport.abort()
        await self._server.wait_closed()


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    it = Broker()
    await it.start()
    yield it
    await it.stop()


class Received:
    """An on_message that keeps what it is given."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[str, bytes, bool]] = asyncio.Queue()

    def __call__(self, topic: str, payload: bytes, retained: bool) -> None:
        self.queue.put_nowait((topic, payload, retained))

    async def next(self) -> tuple[str, bytes, bool]:
        async with asyncio.timeout(WAIT_S):
            return await self.queue.get()


@contextlib.asynccontextmanager
async def linked(
    port: int, on_message: Callable[[str, bytes, bool], None], **settings: Any
) -> AsyncIterator[MqttLink]:
    quick = {"reconnect_delay_ms": 10, "reconnect_delay_ms_max": 100, **settings}
    link = MqttLink(MqttSettings(port=port, **quick), on_message)
    run = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run


def publish(payload: bytes, topic: bytes = b"surge/1/x/report", first: int = 0x30) -> bytes:
    body = struct.pack("!H", len(topic)) + topic + payload
    return bytes([first]) + length_of(len(body)) + body


def length_of(length: int) -> bytes:
    out = b""
    while True:
        length, low = divmod(length, 128)
        out += bytes([low | (0x80 if length else 0)])
        if not length:
            return out


def message(payload: bytes, retained: bool = False) -> tuple[str, bytes, bool]:
    return "surge/1/x/report", payload, retained


async def test_it_connects_with_a_clean_session_and_a_name_nobody_guesses(broker: Broker) -> None:
    names = []
    for _ in range(2):
        async with linked(broker.port, Received(), user="gaaaaaaaaaaaaaaaa", password=Secret("pw")) as link:
            peer = await broker.next()
            _, body = await peer.packet()
            assert body[:10] == b"\x00\x04MQTT\x04\xc2\x00\x0f"  # 3.1.1, user, password, clean, 15 s
            names.append(body[12 : 12 + body[11]])
            assert body.endswith(b"\x00\x11gaaaaaaaaaaaaaaaa\x00\x02pw")
            assert "pw" not in repr(link._settings)
    assert len(set(names)) == 2
    assert all(len(name) >= 17 + 16 for name in names)


async def test_packets_cut_anywhere_are_whole_again(broker: Broker) -> None:
    received = Received()
    stream = publish(b"a") + publish(b"") + publish(b"c" * 300) + publish(b"kept", first=0x31)
    async with linked(broker.port, received) as link:
        peer = await broker.next()
        await peer.greet()
        await link.connected.wait()
        for at in range(len(stream)):
            peer.writer.write(stream[:at])
            await peer.writer.drain()
            await asyncio.sleep(0)  # let it read the part
            peer.writer.write(stream[at:])
            assert [await received.next() for _ in range(4)] == [
                message(b"a"),
                message(b""),
                message(b"c" * 300),
                message(b"kept", True),
            ]


async def test_qos_1_is_acknowledged_and_delivered(broker: Broker) -> None:
    received = Received()
    async with linked(broker.port, received):
        peer = await broker.next()
        await peer.greet()
        peer.writer.write(publish(b"\x00\x07once", first=0x32))
        assert await received.next() == message(b"once")
        assert await peer.packet() == (0x40, b"\x00\x07")


@pytest.mark.parametrize("size", [1025, 2_000, 70_000, 300_000])
async def test_an_oversize_message_is_dropped_and_the_next_one_isnt(broker: Broker, size: int) -> None:
    received = Received()
    async with linked(broker.port, received, payload_bytes_max=1024) as link:
        peer = await broker.next()
        await peer.greet()
        peer.writer.write(
            publish(b"before") + publish(b"x" * size) + publish(b"y" * size) + publish(b"after")
        )
        assert [await received.next() for _ in range(2)] == [message(b"before"), message(b"after")]
        assert link.statistics.oversize == 2
        peer.writer.write(publish(b"z" * 1024))
        assert await received.next() == message(b"z" * 1024)
        assert link.statistics.connections == 1


async def test_an_endless_packet_is_never_buffered(broker: Broker) -> None:
    """256 MB declared: what arrives is thrown away at once."""
    async with linked(broker.port, Received(), payload_bytes_max=1024) as link:
        peer = await broker.next()
        await peer.greet()
        await link.connected.wait()
        peer.writer.write(b"\x30\xff\xff\xff\x7f")
        for _ in range(100):
            peer.writer.write(bytes(100_000))
            await peer.writer.drain()
        peer.writer.close()
        await (await broker.next()).greet()
        assert link.statistics.oversize == 1
        assert link.statistics.received == 0


@pytest.mark.parametrize(
    "bad", [b"\x30\xff\xff\xff\xff\x01", b"\x30\x80\x80\x80\x80\x01xx", b"\x20\xff\xff\xff\xff\x7f"]
)
async def test_a_malformed_length_ends_the_connection_and_not_the_link(broker: Broker, bad: bytes) -> None:
    received = Received()
    async with linked(broker.port, received):
        first = await broker.next()
        await first.greet()
        first.writer.write(bad)
        second = await broker.next()
        await second.greet()
        second.writer.write(publish(b"well"))
        assert await received.next() == message(b"well")


@pytest.mark.parametrize(
    "odd",
    [
        b"\x30\x00",
        b"\x30\x01\x00",
        b"\x30\x02\x00\x05",
        publish(b"x", topic=b"\xff\xfe"),
        b"\x32\x02\x00\x05",
        b"\x40\x00",
        b"\x90\x00",
        b"\xf0\x00",
        b"\x00\x00",
        b"\xd0\x00",
    ],
)
async def test_an_odd_packet_changes_nothing(broker: Broker, odd: bytes) -> None:
    received = Received()
    async with linked(broker.port, received) as link:
        peer = await broker.next()
        await peer.greet()
        await link.connected.wait()
        peer.writer.write(odd + publish(b"well"))
        assert await received.next() == message(b"well")


async def test_a_handler_that_raises_is_counted_and_the_next_message_comes(broker: Broker) -> None:
    received = Received()

    def handler(topic: str, payload: bytes, retained: bool) -> None:
        if payload == b"bad":
            raise KeyError("handler")
        received(topic, payload, retained)

    with capture_logs() as logs:
        async with linked(broker.port, handler) as link:
            peer = await broker.next()
            await peer.greet()
            peer.writer.write(publish(b"bad") * 50 + publish(b"good"))
            assert await received.next() == message(b"good")
            assert link.statistics.handler_errors == 50
    assert 1 <= len([entry for entry in logs if entry["event"] == "mqtt_handler_failed"]) < 50


async def test_a_refused_connection_is_tried_again(broker: Broker) -> None:
    with capture_logs() as logs:
        async with linked(broker.port, Received()) as link:
            for answer in (b"\x20\x02\x00\x05", b"\x20\x02\x00\x03", b"\x20\x02\x00\x01", b""):
                peer = await broker.next()
                await peer.packet()
                peer.writer.write(answer)
                peer.writer.close()
            await (await broker.next()).greet()
            await link.connected.wait()
            assert link.statistics.failed_attempts == 4
            assert link.statistics.reconnects == 0
    reasons = [entry["reason"] for entry in logs if entry["event"] == "mqtt_connect_failed"]
    assert "not authorised" in reasons[0]
    assert all("remedy" in entry for entry in logs if entry["event"] == "mqtt_connect_failed")


async def test_a_refused_subscription_is_no_connection(broker: Broker) -> None:
    with capture_logs() as logs:
        async with linked(broker.port, Received()) as link:
            await (await broker.next()).greet(granted=b"\x00\x80")
            second = await broker.next()
            assert not link.connected.is_set()
            await second.greet()
            await link.connected.wait()
    assert "subscription to surge/1/+/state" in str(logs)


async def test_a_silent_broker_is_given_up(broker: Broker) -> None:
    async with linked(broker.port, Received(), connect_timeout_ms=100) as link:
        silent = await broker.next()
        await (await broker.next()).greet()
        await link.connected.wait()
        assert link.statistics.failed_attempts == 1
        await silent.packet()
        assert await silent.reader.read() == b""  # and its socket is closed


async def test_what_is_published_while_down_is_sent_once_up() -> None:
    broker = Broker()
    await broker.start()
    port = broker.port
    await broker.stop()
    async with linked(port, Received(), outgoing_qos0_max=2) as link:
        for number in range(4):
            assert link.publish("surge/1/x/ack", b"%d" % number)
        assert (link.statistics.waiting, link.statistics.dropped) == (2, 2)
        await broker.start(port)
        peer = await broker.next()
        await peer.greet()
        assert [(await peer.packet())[1][-1:] for _ in range(2)] == [b"2", b"3"]
    await broker.stop()


async def test_a_command_is_repeated_until_it_is_acknowledged(broker: Broker) -> None:
    async with linked(broker.port, Received()) as link:
        first = await broker.next()
        await first.greet()
        assert link.publish("surge/1/x/command", b"one", qos=1)
        assert link.publish("surge/1/x/command", b"two", qos=1)
        kind, body = await first.packet()
        assert (kind, body[-3:]) == (0x32, b"one")
        await first.packet()
        first.writer.write(b"\x40\x02" + body[-5:-3])  # one is acknowledged, two isn't
        await first.writer.drain()
        first.writer.close()
        second = await broker.next()
        await second.greet()
        assert (await second.packet())[1][-3:] == b"two"


async def test_commands_beyond_the_limit_are_refused(broker: Broker) -> None:
    async with linked(broker.port, Received(), outgoing_qos1_max=3, in_flight_max=1) as link:
        await (await broker.next()).greet()
        await link.connected.wait()
        assert [link.publish("surge/1/x/command", b"", qos=1) for _ in range(4)] == [True, True, True, False]
        assert link.statistics.refused == 1


async def test_a_broker_that_doesnt_read_fills_the_queue_and_nothing_else(broker: Broker) -> None:
    async with linked(broker.port, Received(), outgoing_qos0_max=100) as link:
        peer = await broker.next()
        await peer.greet()
        await link.connected.wait()
        for _ in range(3_000):
            link.publish("surge/1/x/ack", bytes(16_000))
            await asyncio.sleep(0)
        statistics = link.statistics
        assert statistics.waiting == 100
        assert statistics.dropped > 0
        assert statistics.published + statistics.waiting + statistics.dropped == 3_000
        peer.writer.transport.abort()


async def test_goodbye_is_said_after_what_waits_is_sent(broker: Broker) -> None:
    async with linked(broker.port, Received()) as link:
        peer = await broker.next()
        await peer.greet()
        await link.connected.wait()
        link.publish("surge/1/x/ack", b"last")
    assert (await peer.packet())[1].endswith(b"last")
    assert await peer.packet() == (0xE0, b"")


def test_unusable_messages_are_refused() -> None:
    link = MqttLink(MqttSettings(payload_bytes_max=1024), Received())
    with pytest.raises(ValueError, match="QoS 2"):
        link.publish("surge/1/x/ack", b"", qos=2)
    with pytest.raises(ValueError, match="payload_bytes_max is 1024"):
        link.publish("surge/1/x/ack", bytes(1025))


def test_unusable_settings_are_refused(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="tls_authority"):
        MqttSettings(tls_authority=tmp_path)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455])
def test_a_declared_length_is_read(length: int) -> None:
    header = b"\x30" + length_of(length)
    assert remaining_length(b"xyz" + header, 3) == (length, 3 + len(header))
    for cut in range(len(header)):
        assert remaining_length(header[:cut], 0)[0] == INCOMPLETE
    assert remaining_length(b"\x30\xff\xff\xff\xff", 0)[0] == MALFORMED
