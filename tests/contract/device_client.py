"""The device side of the broker tests: MQTT 3.1.1 by hand, to do what no decent client would."""

import asyncio
import contextlib
import itertools
import struct
from typing import Self

import brokers

REFUSED = (1, 2, 3, 4, 5, "closed")  # CONNACK codes, or no CONNACK at all
WAIT_S = 60  # only so that a failing test ends

_ids = itertools.count()

Message = tuple[str, bytes, bool]
Will = tuple[str, bytes, int, bool]


class Lost(Exception):
    """The broker closed the connection."""


class DeviceClient:
    """One connection. What it is sent on subscriptions is in a queue; answers go to whoever asked."""

    def __init__(
        self,
        port: int,
        *,
        user: str | None,
        password: str | None,
        client_id: str | None = None,
        clean_session: bool = True,
        will: Will | None = None,
    ) -> None:
        self._port = port
        self._connect_packet = _connect(
            f"test-{next(_ids)}" if client_id is None else client_id, user, password, clean_session, will
        )
        self._answers: dict[tuple[int, int], asyncio.Future[bytes]] = {}
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._mid = 0
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self.disconnected = asyncio.Event()

    async def connect(self) -> int | str:
        """The CONNACK's code, or "closed"."""
        reader, self._writer = await asyncio.open_connection(brokers.HOST, self._port)
        connack = self._expect(0x20, 0)
        self._reading = asyncio.create_task(self._read(reader), name="device client")
        self._writer.write(self._connect_packet)
        try:
            return (await self._answer(connack))[1]
        except Lost:
            return "closed"

    async def connected(self) -> Self:
        code = await self.connect()
        assert code == 0, f"refused: {code}"
        return self

    def publish_soon(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> int:
        """Writes the packet; gives its id (0 at QoS 0)."""
        mid = self._next_mid() if qos else 0
        body = _text(topic) + (struct.pack("!H", mid) if qos else b"") + payload
        self._write(0x30 | qos << 1 | retain, body)
        return mid

    async def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> None:
        """Returns when the broker has handled it, at QoS 0 too. Raises Lost."""
        mid = self.publish_soon(topic, payload, qos, retain)
        await (self._answer(self._expect(0x40, mid)) if qos else self.ping())

    async def publish_or_lose(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> None:
        with contextlib.suppress(Lost):
            await self.publish(topic, payload, qos, retain)

    async def subscribe(self, topic_filter: str, qos: int) -> int:
        """The SUBACK's code. Raises Lost."""
        mid = self._next_mid()
        answer = self._expect(0x90, mid)
        self._write(0x82, struct.pack("!H", mid) + _text(topic_filter) + bytes([qos]))
        return (await self._answer(answer))[2]

    async def subscribe_or_lose(self, topic_filter: str, qos: int) -> None:
        with contextlib.suppress(Lost):
            await self.subscribe(topic_filter, qos)

    async def ping(self) -> None:
        answer = self._expect(0xD0, 0)
        self._write(0xC0, b"")
        await self._answer(answer)

    async def next_message(self) -> Message:
        """(topic, payload, retained)"""
        async with asyncio.timeout(WAIT_S):
            return await self._messages.get()

    def messages_so_far(self) -> list[Message]:
        return [self._messages.get_nowait() for _ in range(self._messages.qsize())]

    def cut(self) -> None:
        """Ends the connection without a word, so that the will is published."""
        assert self._writer is not None
        self._writer.transport.abort()

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        if self._reading is not None:
            await self._reading

    def _next_mid(self) -> int:
        self._mid += 1
        return self._mid

    def _expect(self, kind: int, mid: int) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[kind, mid] = future
        if self.disconnected.is_set():
            future.set_exception(Lost())
        return future

    async def _answer(self, future: asyncio.Future[bytes]) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await future

    def _write(self, first: int, body: bytes) -> None:
        assert self._writer is not None
        self._writer.write(_packet(first, body))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                first, body = await _read_packet(reader)
                if first & 0xF0 == 0x30:
                    self._take(first, body)
                else:
                    kind = first & 0xF0
                    mid = struct.unpack("!H", body[:2])[0] if kind in (0x40, 0x90) else 0
                    answer = self._answers.pop((kind, mid), None)
                    if answer is not None and not answer.done():
                        answer.set_result(body)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the end of this connection, expected or not
        finally:
            self.disconnected.set()
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(Lost())
                    answer.exception()  # so that an answer nobody waits for is no complaint

    def _take(self, first: int, body: bytes) -> None:
        end = 2 + struct.unpack("!H", body[:2])[0]
        payload = body[end:]
        if first & 0x06:
            self._write(0x40, payload[:2])
            payload = payload[2:]
        self._messages.put_nowait((body[2:end].decode(), payload, bool(first & 1)))


async def _read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return first, await reader.readexactly(length)


def _connect(client_id: str, user: str | None, password: str | None, clean: bool, will: Will | None) -> bytes:
    flags = 0x02 if clean else 0
    fields = _text(client_id)
    if will is not None:
        topic, payload, qos, retain = will
        flags |= 0x04 | qos << 3 | (0x20 if retain else 0)
        fields += _text(topic) + struct.pack("!H", len(payload)) + payload
    if user is not None:
        flags |= 0x80
        fields += _text(user)
    if password is not None:
        flags |= 0x40
        fields += _text(password)
    return _packet(0x10, _text("MQTT") + bytes([4, flags, 0, 0]) + fields)


def _packet(first: int, body: bytes) -> bytes:
    length, header = len(body), bytes([first])
    while True:
        length, low = divmod(length, 128)
        header += bytes([low | (0x80 if length else 0)])
        if not length:
            return header + body


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("!H", len(data)) + data
