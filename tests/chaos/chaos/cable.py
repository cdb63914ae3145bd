"""The cable between a gateway and the backend: a TCP relay that can be cut, fall silent, or lose answers.

Place in the flow: a gateway has its address for the backend's. Does not understand what passes. Rules kept: a
connection that lost bytes never carries another one, as no TCP connection would; whatever waits is bounded by
the two ends' own flow control.
"""

import asyncio
import contextlib
import socket
import struct

from chaos.schedule import Deed

CHUNK_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends RST


class Cable:
    """``port`` is where it listens once it is started."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._trouble: Deed | None = None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        while self._tasks:
            self._reset_all()
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    def break_by(self, deed: Deed) -> None:
        """From now on, until ``heal``."""
        self._trouble = deed
        if deed is Deed.CUT:
            self._reset_all()

    def heal(self) -> None:
        """As new; connections that lost bytes are reset."""
        if self._trouble is not None:
            self._trouble = None
            self._reset_all()

    def _reset_all(self) -> None:
        for writer in tuple(self._writers):
            _reset(writer)

    async def _relay(self, near: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._writers.add(near_writer)
        far_writer: asyncio.StreamWriter | None = None
        try:
            if self._trouble is Deed.CUT:
                return
            far, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers.add(far_writer)
            ends = (
                asyncio.create_task(self._pump(near, far_writer, requests=True)),
                asyncio.create_task(self._pump(far, near_writer, requests=False)),
            )
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
                await asyncio.gather(*ends, return_exceptions=True)
        except OSError:
            pass  # the backend is down: the gateway sees its connection reset
        finally:
            for writer in (near_writer, far_writer):
                if writer is not None:
                    self._writers.discard(writer)
                    _reset(writer)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, requests: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                if self._trouble is Deed.SILENCE or (self._trouble is Deed.LOSE_ANSWERS and not requests):
                    continue
                target.write(data)
                await target.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
