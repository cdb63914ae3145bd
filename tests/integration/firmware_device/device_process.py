"""The real firmware, compiled as boards get it, in a real MicroPython with a small heap."""

import json
import os
import queue
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from surge_cli.micropython import Interpreter

DEVICE = "d" + "a2b3c4d5e6f7gggg"
SECRET = bytes(range(32))
HEAP = "256k"  # pointers have 8 bytes here: a fair double of 128 KiB on a board
HANG_S = 120


def provision(folder: Path, port: int, **settings: Any) -> Path:
    """A device's data directory, as `surge device enrol` leaves it."""
    folder.mkdir(mode=0o700)
    said = {
        "broker_host": "127.0.0.1",
        "broker_port": port,
        "report_interval_s": 0.05,
        "status_interval_s": 1,
    }
    (folder / "settings.json").write_text(json.dumps({**said, **settings}))
    (folder / "floor.json").write_text(json.dumps({"boot": 0, "command": 0}))
    (folder / "identity.json").write_text(json.dumps({"device": DEVICE, "secret": SECRET.hex()}))
    return folder


class DeviceProcess:
    """One boot of the device; ``seen`` is what it said on its console."""

    def __init__(self, interpreter: Interpreter, firmware: Path, script: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*interpreter.argv, "-X", f"heapsize={HEAP}", str(script), *arguments],
            env={**os.environ, "MICROPYPATH": f".frozen:{firmware}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self._process.pid
        self.seen: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for(self, part: str) -> str:
        """The next line that holds ``part``."""
        while True:
            try:
                line = self._lines.get(timeout=HANG_S)
            except queue.Empty:
                raise AssertionError(f"no line with {part!r} came: {self.seen}") from None
            assert line is not None, f"it ended before it said {part!r}: {self.seen}"
            self.seen.append(line)
            if part in line:
                return line

    def ended(self) -> int:
        """Its exit code, once it ended by itself."""
        code = self._process.wait(HANG_S)
        self._drain()
        return code

    def kill(self) -> None:
        """SIGKILL, wherever it is; harmless when it has ended."""
        self._process.kill()
        self._process.wait()
        self._drain()

    def stop(self, with_signal: signal.Signals = signal.SIGINT) -> int:
        """Ask it to end in order; its exit code."""
        self._process.send_signal(with_signal)
        return self.ended()

    def _drain(self) -> None:
        self._reader.join()
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self.seen.append(line)
        assert self._process.stdout is not None
        self._process.stdout.close()
