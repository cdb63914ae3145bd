"""The real `surge backend` in its own process, on a free port, and the people and machines that use it."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_disk import SmallDisk, small_disk

from surge_wire import ed25519
from surge_wire.batch import FIRST_PREVIOUS, Batch, chain_hash, encode_batch, seal_batch
from surge_wire.hkdf import INFO_REPORT, derive_key
from surge_wire.report import Report, Usage, seal_report
from surge_wire.senml import make_record

DISK_LEN = 24 << 20
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
ROOT = Path(__file__).parents[3]
_PYTHONPATH = os.pathsep.join(str(ROOT / name) for name in ("protocol", "gateway", "backend", "tools"))


def environment(**more: str) -> dict[str, str]:
    """A clean environment that finds the sources."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SURGE_")}
    return kept | {"PYTHONPATH": _PYTHONPATH, "PYTHONUNBUFFERED": "1"} | more


def surge(
    *arguments: str, cwd: Path, inside: Sequence[str] = (), **more: str
) -> subprocess.CompletedProcess[str]:
    """Run `surge backend ...` to its end."""
    return subprocess.run(
        [*inside, sys.executable, "-m", "surge_cli", "backend", *arguments],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )


def encode(data: bytes) -> str:
    """base64url without padding."""

    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    """The bytes of base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass
class Device:
    """A device that seals real reports and counts like the firmware."""

    device_id: str
    secret: bytes
    next_seq: int = 0
    boot: int = 1

    def report(self, value: float = 20.0, name: str = "temperature", **fields: Any) -> bytes:
        seq = self.next_seq
        self.next_seq += 1
        usage = Usage(seq, seq, 100 * seq, 0) if seq % 10 == 9 else None
        report = Report(self.boot, seq, 1_000 * seq, None, [make_record(name, "Cel", value)], usage, **fields)
        return seal_report(self.device_id, derive_key(self.secret, INFO_REPORT), report)


@dataclass
class Gateway:
    """A gateway that signs real batches and keeps its chain."""

    gateway_id: str
    seed: bytes
    token: str
    log_public_key: bytes
    next_seq: int = 0
    previous: bytes = FIRST_PREVIOUS

    def batch(self, reports: list[bytes], now_ms: int, **changed: Any) -> bytes:
        """The next batch; the chain moves on."""
        fields = {"seq": self.next_seq, "previous": self.previous, "closed_ms": now_ms} | changed
        payload = encode_batch(Batch(reports=reports, received_ms=[now_ms] * len(reports), **fields))
        self.next_seq += 1
        self.previous = chain_hash(payload)
        return seal_batch(self.gateway_id, ed25519.signer(self.seed), payload)


@dataclass
class Backend:
    """One backend: its folder, its process while it runs, everything it ever printed, every secret it was
    given.
    """

    folder: Path
    extra_environment: dict[str, str] = field(default_factory=dict)
    inside: list[str] = field(default_factory=list)  # a command that runs the one that follows it
    url: str = ""
    output: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    process: "subprocess.Popen[str] | None" = None
    _readers: list[threading.Thread] = field(default_factory=list)
    _seeds: int = 0
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    @property
    def config(self) -> Path:
        return self.folder / "backend.toml"

    @property
    def data(self) -> Path:
        return self.folder / "surge-data"

    @property
    def database(self) -> Path:
        return self.data / "surge.db"

    @property
    def admin(self) -> dict[str, str]:
        return bearer((self.data / "admin.token").read_text().strip())

    def configure(self, text: str = "") -> None:
        self.config.write_text(
            "[server]\nport = 0\n[limits]\nenrolment_burst = 1000\npublic_burst = 10000\n" + text
        )

    def start(self, *arguments: str) -> None:
        """Start it and wait for its one line on stdout."""
        self.process = subprocess.Popen(
            [
                *self.inside,
                *(sys.executable, "-m", "surge_cli", "backend", "--config", str(self.config)),
                *arguments,
            ],
            env=environment(**self.extra_environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = threading.Event()

        def read(stream: Any, is_stdout: bool) -> None:
            for line in stream:
                self.output.append(line)
                if is_stdout and line.startswith("surge backend: "):
                    self.url = line.split()[2]
                    ready.set()
            if is_stdout:
                ready.set()  # it ended

        streams = ((self.process.stdout, True), (self.process.stderr, False))
        self._readers = [threading.Thread(target=read, args=stream, daemon=True) for stream in streams]
        for reader in self._readers:
            reader.start()
        assert ready.wait(START_TIMEOUT_S), self.text
        assert self.url, self.text

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `surge backend ...` with its settings to its end."""
        return surge(*arguments, "--config", str(self.config), cwd=self.folder, inside=self.inside)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it and give its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(STOP_TIMEOUT_S)
        for reader in self._readers:
            reader.join(STOP_TIMEOUT_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.process = None
        return code

    @property
    def text(self) -> str:
        return "".join(self.output)

    # --- through the API ----------------------------------------------------------------------------------

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self.client.request(method, self.url + path, **arguments)

    def get(self, path: str, token: dict[str, str] | None = None, **parameters: Any) -> Any:
        answer = self.request("GET", path, headers=token or {}, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, token: dict[str, str], body: Any, expected: int = 201) -> Any:
        answer = self.request("POST", path, headers=token, json=body)
        assert answer.status_code == expected, answer.text
        return answer.json() if answer.content else None

    def owner(self, name: str) -> tuple[str, dict[str, str]]:
        made = self.post("/v1/owners", self.admin, {"name": name})
        self.secrets.append(made["token"])
        return made["owner_id"], bearer(made["token"])

    def enrolment(self, owner: dict[str, str], kind: str) -> dict[str, str]:
        made = self.post("/v1/enrolments", owner, {"kind": kind, "name": f"a {kind}"})
        self.secrets.append(made["enrolment_token"])
        return bearer(made["enrolment_token"])

    def _seed(self) -> bytes:
        self._seeds += 1
        return bytes([self._seeds]) * 32

    def device(self, owner: dict[str, str]) -> Device:
        secret = self._seed()
        self.secrets += [encode(secret), secret.hex()]
        body = {"secret": encode(secret), "board": "linux"}
        made = self.post("/v1/devices", self.enrolment(owner, "device"), body)
        return Device(made["device_id"], secret)

    def gateway(self, owner: dict[str, str]) -> Gateway:
        seed = self._seed()
        body = {"public_key": encode(ed25519.public_key(seed))}
        made = self.post("/v1/gateways", self.enrolment(owner, "gateway"), body)
        self.secrets += [made["token"], seed.hex()]
        key = self.get("/v1/log/key")["log_public_key"]
        assert key == made["log_public_key"]

        return Gateway(made["gateway_id"], seed, made["token"], decode(key))

    def now_ms(self, gateway: Gateway) -> int:
        return int(self.get("/v1/gateways/self", bearer(gateway.token))["server_time_ms"])

    def submit(self, gateway: Gateway, envelope: bytes) -> httpx.Response:
        headers = bearer(gateway.token) | {"Content-Type": "application/cose"}
        return self.request("POST", "/v1/batches", headers=headers, content=envelope)

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for the statistics until `condition` holds; the test's own time-out is the only one."""
        while True:
            stats: dict[str, Any] = self.get("/v1/stats")
            if condition(stats):
                return stats
            assert self.process is not None
            assert self.process.poll() is None, self.text


@contextlib.contextmanager
def set_up(made: Backend, settings: str = "") -> Iterator[Backend]:
    """A backend that is set up and not yet started; it is stopped at the end if it still runs."""
    made.configure(settings)
    done = surge("init", "--config", str(made.config), cwd=made.folder, inside=made.inside)
    assert done.returncode == 0, done.stderr
    made.output.append(done.stdout + done.stderr)
    made.secrets.append((made.data / "admin.token").read_text().strip())
    for name in ("master.key", "log.key"):
        made.secrets.append((made.data / name).read_text().strip())
    try:
        yield made
    finally:
        if made.process is not None:
            made.stop(signal.SIGKILL)
        made.client.close()
        print(made.text)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """A backend that is set up and not yet started."""
    with set_up(Backend(tmp_path)) as made:
        yield made


class BackendOnDisk(Backend):
    """Its data directory is on a disk that can be filled."""

    disk: SmallDisk

    @property
    def data(self) -> Path:
        return self.disk.folder / "data"


@pytest.fixture
def full_backend(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[BackendOnDisk]:
    """As `backend`, with database and telemetry on a disk that can be filled; parametrised with False, on one
    that the limit of a process stands for.
    """
    with small_disk(tmp_path / "disk", DISK_LEN, getattr(request, "param", True)) as disk:
        made = BackendOnDisk(tmp_path, inside=disk.inside)
        made.disk = disk
        settings = f"[storage]\ndata_dir = '{disk.place / 'data'}'\n[telemetry]\nretry_max_s = 0.5\n"
        with set_up(made, settings) as backend:
            assert isinstance(backend, BackendOnDisk)
            yield backend


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The members of a problem."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    found: dict[str, Any] = json.loads(answer.content)
    return found
