"""Real servers for the telemetry contract, each private, on loopback, in a folder of its own; and a fake in
memory.

A server counts as ready when it says so in its log, so nothing here sleeps or polls.
"""

from __future__ import annotations

import collections
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from surge_backend.telemetry.points import NS_PER_MS, Point
from surge_backend.telemetry.store import (
    LATEST_MAX,
    Sample,
    StoreCapabilities,
    StoreHealth,
    StoreUnavailable,
    TelemetryQuery,
    sample_order,
)

START_TIMEOUT_S = 60
LOG_LINES_KEPT = 50

INFLUX1_CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
[http]
bind-address = "127.0.0.1:{port}"
auth-enabled = {auth}
log-enabled = false
[monitor]
store-enabled = false
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (Debian package {package})")
    return found


@dataclass
class Server:
    """One server process; `start` again after `kill` finds the same port and data."""

    command: Sequence[str]
    port: int
    ready: str  # what its log says when it listens

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._log: collections.deque[str] = collections.deque(maxlen=LOG_LINES_KEPT)
        self._reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        listening = threading.Event()
        self._process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self._reader = threading.Thread(target=self._read, args=(self._process, listening), daemon=True)
        self._reader.start()
        if not listening.wait(START_TIMEOUT_S) or self._process.poll() is not None:
            self.kill()
            pytest.fail(f"{self.command[0]} did not start:\n" + "".join(self._log))

    def kill(self) -> None:
        """Ends it as a power loss would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._reader is not None:
                self._reader.join()
            if self._process.stdout is not None:
                self._process.stdout.close()
        self._process = None

    def _read(self, process: subprocess.Popen[str], listening: threading.Event) -> None:
        for line in process.stdout or ():
            self._log.append(line)
            if self.ready in line:
                listening.set()
        listening.set()  # it ended: `start` looks


def influx1_server(folder: Path, *, auth: bool = False) -> Server:
    port = free_port()
    config = folder / "influxdb.conf"
    config.write_text(
        INFLUX1_CONFIG.format(folder=folder, port=port, auth=str(auth).lower()), encoding="utf-8"
    )
    command = [program("influxd", "influxdb"), "run", "-config", str(config)]
    return Server(command, port, "Listening on HTTP")


def victoria_server(folder: Path, *extra: str) -> Server:
    port = free_port()
    command = [
        program("victoria-metrics", "victoria-metrics"),
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        "-memory.allowedBytes=256MB",
        *extra,
    ]
    return Server(command, port, "pprof handlers are exposed")


class MemoryStore:
    """The fake: the contract in its plainest form, to test against what needs a store but not a server."""

    capabilities = StoreCapabilities()

    def __init__(self) -> None:
        self.points: dict[tuple[str, str, str, int], Point] = {}
        self.down = False

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("the fake store is down", "bring it up")

    async def write(self, points: Sequence[Point]) -> None:
        self._check()
        for point in points:
            self.points[point.key] = point

    async def query(self, query: TelemetryQuery) -> list[Sample]:
        self._check()
        found = [
            _sample(point)
            for point in self.points.values()
            if point.device_id == query.device_id
            and query.from_ms * NS_PER_MS <= point.time_ns < query.to_ms * NS_PER_MS
            and query.name in (None, point.name)
        ]
        found.sort(key=sample_order)
        if query.window_ms is not None:
            found = _windows(found, query.window_ms * NS_PER_MS, str(query.aggregate))
        return found[: query.limit]

    async def latest(self, device_id: str) -> list[Sample]:
        self._check()
        newest: dict[tuple[str, str], Sample] = {}
        for point in sorted(self.points.values(), key=lambda point: point.time_ns):
            if point.device_id == device_id:
                newest[(point.name, point.unit)] = _sample(point)
        return [newest[key] for key in sorted(newest)][:LATEST_MAX]

    async def count(self) -> int:
        self._check()
        return len(self.points)

    async def drop_all(self) -> None:
        self._check()
        self.points.clear()

    async def health(self) -> StoreHealth:
        return StoreHealth(ok=not self.down, detail="a fake in memory")


def _sample(point: Point) -> Sample:
    value = float(point.value) if type(point.value) is int else point.value
    return Sample(point.device_id, point.name, point.unit, point.time_ns, value, point.flags)


def _windows(samples: Sequence[Sample], window_ns: int, aggregate: str) -> list[Sample]:
    groups: dict[tuple[int, str, str], list[float]] = {}
    for sample in samples:
        if type(sample.value) is float:
            start_ns = sample.time_ns - sample.time_ns % window_ns
            groups.setdefault((start_ns, sample.name, sample.unit), []).append(sample.value)
    results = []
    for (start_ns, name, unit), values in sorted(groups.items()):
        value = {
            "mean": sum(values) / len(values),
            "min": min(values),
            "max": max(values),
            "count": len(values),
            "last": values[-1],
        }[aggregate]
        results.append(Sample(samples[0].device_id, name, unit, start_ns, value))
    return results
