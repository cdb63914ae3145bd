"""A client of nats-server's own protocol, by hand: sees what MQTT hides, and tries what it must not do."""

import asyncio
import json
from pathlib import Path

import brokers
from device_client import WAIT_S


def listening_ports(pid: int) -> dict[int, str]:
    """port -> address (in /proc's hexadecimal) of every TCP socket on which process ``pid`` listens."""
    inodes = set()
    for descriptor in Path("/proc", str(pid), "fd").iterdir():
        target = str(descriptor.readlink()) if descriptor.is_symlink() else ""
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc", str(pid), "net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # 0A: listening
                address, _, port = fields[1].partition(":")
                found[int(port, 16)] = address
    return found


class NatsCore:
    """One connection to the port of nats-server's own protocol."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.messages: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def connect(self, options: dict[str, str]) -> str:
        """What the server says to it: "PONG", or its error, or nothing where it just hangs up."""
        self._reader, self._writer = await asyncio.open_connection(brokers.HOST, self._port)
        hello = {"verbose": False, "pedantic": False, "headers": True, "lang": "test", "version": "1"}
        await self._reader.readline()  # INFO
        self._write(f"CONNECT {json.dumps(hello | options)}\r\nPING\r\n")
        async with asyncio.timeout(WAIT_S):
            return (await self._reader.readline()).decode().strip()

    async def subscribe_to_all(self) -> None:
        """Everything that anybody publishes, the server's own subjects included."""
        self._write("SUB > 1\r\nSUB $MQTT.> 2\r\nSUB $JS.> 3\r\nPING\r\n")
        while (line := await self._reader.readline()).strip() != b"PONG":
            await self._take(line)
        self._reading = asyncio.create_task(self._read(), name="nats core client")

    async def close(self) -> None:
        self._writer.transport.abort()
        if hasattr(self, "_reading"):
            await self._reading

    def _write(self, text: str) -> None:
        self._writer.write(text.encode())

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                await self._take(line)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the end of this connection

    async def _take(self, line: bytes) -> None:
        word, *fields = line.decode().split()
        if word in ("MSG", "HMSG"):
            body = await self._reader.readexactly(int(fields[-1]) + 2)
            self.messages.put_nowait((fields[0], body[:-2]))
        elif word == "PING":
            self._write("PONG\r\n")
