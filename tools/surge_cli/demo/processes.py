"""Child processes of a network on this machine: started with their output kept, ended with the program that
started them whatever happens to it.

Place in the flow: under ``demo.parts``. Does not know what the programs are, and starts nothing again by
itself. Rules kept: every child dies with its parent (Linux sends it SIGKILL); a child that ends by itself
while it is needed is an error that shows its last lines.
"""

import asyncio
import ctypes
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from surge_host.errors import UserError

LINES_KEPT = 200
LINES_SHOWN = 8
STOP_TIMEOUT_S = 20
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A running program; every line of its output goes to a file and to ``on_line``."""

    def __init__(self, name: str, log_path: Path, on_line: Callable[[str], None]) -> None:
        self.name = name
        self.log_path = log_path
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._on_line = on_line
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it; raises UserError if it can't be started at all."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its children in order
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            raise UserError(f"{self.name} can't be started", command[0], str(error)) from error
        self._reader = asyncio.create_task(self._read(), name=f"read {self.name}")

    @property
    def pid(self) -> int | None:
        """Its process number, None while it isn't running."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether it is there and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def _read(self) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        with self.log_path.open("a", encoding="utf-8", errors="replace") as log:
            async for data in process.stdout:
                line = data.decode("utf-8", "replace").rstrip("\n")
                log.write(line + "\n")
                log.flush()
                self.lines.append(line)
                self._on_line(line)

    async def wait(self) -> int:
        """Its exit code, once its output was read to the end."""
        if self._process is None or self._reader is None:
            raise RuntimeError(f"{self.name} was never started")
        await self._reader
        return await self._process.wait()

    def send(self, number: signal.Signals) -> bool:
        """Signal it; False if it isn't running."""
        if self._process is None or not self.running:
            return False
        self._process.send_signal(number)
        return True

    async def kill(self) -> int:
        """End it as a power cut would, wherever it is. Returns its exit code."""
        self.send(signal.SIGKILL)
        return await self.wait()

    async def stop(self, with_signal: signal.Signals) -> None:
        """Ask it to end, then make it."""
        if self._process is None:
            return
        for chosen in (with_signal, signal.SIGKILL):
            if not self.running:
                break
            self._process.send_signal(chosen)
            try:
                await asyncio.wait_for(self.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                continue
        await self.wait()

    def last_words(self) -> str:
        """Its last lines, for an error message."""
        return "\n    ".join(list(self.lines)[-LINES_SHOWN:]) or "it said nothing"

    def failed(self) -> UserError:
        """The error for a child that ended although it is needed."""
        return UserError(
            f"{self.name} ended", str(self.log_path), f"its last lines:\n    {self.last_words()}"
        )
