"""Many devices in one process: plain MQTT connections that publish real, sealed reports and read their acks.

Place in the flow: the benches' load. Lean on purpose, so that what is measured is the network behind it. Does
not lose, repeat or reorder anything (``surge simulate`` does), and keeps no outbox: reports go out at QoS 0
as on a board, and what the network loses shows as reports that were never acknowledged.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from surge_host.mqtt_credentials import DeviceCredential, make_device_credential
from surge_wire.ack import decode_ack

HOST = "127.0.0.1"
CONNECT_TOGETHER = 64  # connections that log in at once: a broker's password checks are what they wait for
LOOK_AGAIN_S = 0.005  # for acks; when the last one came is noted at once
ACK_WAIT_S = 20.0  # for an ack to come; then what it should name was lost on the way
PASSWORD = "p" * 43  # everybody's: a verifier for each device would take longer to make than to measure


@dataclass(frozen=True)
class Part:
    """One device's share of the load."""

    device_id: str
    reports: list[bytes]


def credentials(device_ids: Iterable[str]) -> list[DeviceCredential]:
    """Verifiers of PASSWORD for all of them, made once: no broker can tell, each checks every login."""
    one = make_device_credential("", PASSWORD)
    return [DeviceCredential(device_id, one.bcrypt, one.pbkdf2_sha512) for device_id in device_ids]


def text(value: str) -> bytes:
    return struct.pack("!H", len(value)) + value.encode()


def packet(kind: int, body: bytes) -> bytes:
    length = len(body)
    head = bytes([length]) if length < 128 else bytes([length % 128 | 0x80, length // 128])
    return bytes([kind]) + head + body


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 128:
            return kind, await reader.readexactly(length)


class Connection:
    """A device's connection. ``acknowledged`` counts the reports that acks have named so far; ``on_ack`` is
    called after each.
    """

    def __init__(self, device_id: str, on_ack: Callable[[], None] = lambda: None) -> None:
        self.device_id = device_id
        self._on_ack = on_ack
        self._topic = text(f"surge/1/{device_id}/report")
        self._answered = asyncio.Event()
        self.acknowledged = 0

    async def open(self, port: int) -> None:
        """Log in and subscribe to the acks."""
        self.reader, self.writer = await asyncio.open_connection(HOST, port)
        connect = text("MQTT") + b"\x04\xc2\x00\x00" + text(self.device_id)
        self.writer.write(packet(0x10, connect + text(self.device_id) + text(PASSWORD)))
        if (await read_packet(self.reader))[1] != b"\x00\x00":
            raise SystemExit("the broker refused a device")
        self.writer.write(packet(0x82, b"\x00\x01" + text(f"surge/1/{self.device_id}/ack") + b"\x00"))
        await read_packet(self.reader)
        self._reading = asyncio.create_task(self._read())

    def publish(self, *reports: bytes) -> None:
        """Hand reports to the socket in one piece."""
        self.writer.write(b"".join(packet(0x30, self._topic + report) for report in reports))

    async def ping(self) -> None:
        """Return when the broker has read all that was sent."""
        self._answered.clear()
        self.writer.write(b"\xc0\x00")
        await self._answered.wait()

    async def _read(self) -> None:
        while True:
            kind, body = await read_packet(self.reader)
            if kind == 0xD0:
                self._answered.set()
            elif kind & 0xF0 == 0x30:
                topic_len = struct.unpack_from("!H", body)[0]
                ranges = decode_ack(body[2 + topic_len :]).ranges
                self.acknowledged = sum(last - first + 1 for first, last in ranges)
                self._on_ack()


class Fleet:
    """All connections, and when what they sent is acknowledged."""

    def __init__(self, device_ids: Iterable[str]) -> None:
        self.connections = [Connection(device_id, self._note) for device_id in device_ids]
        self._news = asyncio.Event()
        self.last_ack_s = 0.0

    def _note(self) -> None:
        self.last_ack_s = time.perf_counter()
        self._news.set()

    async def open(self, port: int) -> None:
        """Log all of them in."""
        turn = asyncio.Semaphore(CONNECT_TOGETHER)

        async def one(connection: Connection) -> None:
            async with turn:
                await connection.open(port)

        await asyncio.gather(*(one(connection) for connection in self.connections))

    @property
    def acknowledged(self) -> int:
        return sum(connection.acknowledged for connection in self.connections)

    async def until_acknowledged(self, count: int) -> int:
        """Until acks name ``count`` reports, or none comes any more; gives how many they do."""
        with contextlib.suppress(TimeoutError):
            while self.acknowledged < count:
                self._news.clear()
                async with asyncio.timeout(ACK_WAIT_S):
                    await self._news.wait()
                await asyncio.sleep(LOOK_AGAIN_S)  # summing up at every ack would cost more than the acks
        return self.acknowledged
