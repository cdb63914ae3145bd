"""The cable of `make chaos`, between two real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from chaos.cable import Cable
from chaos.schedule import Deed

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@contextlib.asynccontextmanager
async def cable_to_an_echo() -> AsyncIterator[tuple[Cable, "asyncio.Queue[bytes]", Connect]]:
    """What arrives at the far end is queued, and sent back."""
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1024):
                arrived.put_nowait(data)
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    cable = Cable(server.sockets[0].getsockname()[1])
    await cable.start()
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", cable.port)
        writers.append(writer)
        return reader, writer

    try:
        yield cable, arrived, connect
    finally:
        for writer in writers:
            writer.close()
        await cable.stop()
        server.close()


async def _read_one(connect: Connect) -> None:
    reader, _ = await connect()
    await reader.readexactly(1)


async def test_it_passes_both_ways() -> None:
    async with cable_to_an_echo() as (_, _, connect):
        reader, writer = await connect()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"


async def test_a_cut_resets_what_is_open_and_what_comes() -> None:
    async with cable_to_an_echo() as (cable, _, connect):
        reader, writer = await connect()
        writer.write(b"hello")
        await reader.readexactly(5)
        cable.break_by(Deed.CUT)
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await _read_one(connect)
        cable.heal()
        reader, writer = await connect()
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"


@pytest.mark.parametrize("deed", [Deed.SILENCE, Deed.LOSE_ANSWERS])
async def test_what_lost_bytes_never_carries_another(deed: Deed) -> None:
    async with cable_to_an_echo() as (cable, arrived, connect):
        reader, writer = await connect()
        writer.write(b"before")
        await reader.readexactly(6)
        assert await arrived.get() == b"before"
        cable.break_by(deed)
        writer.write(b"during")
        if deed is Deed.LOSE_ANSWERS:
            assert await arrived.get() == b"during"
        cable.heal()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        assert arrived.empty()
