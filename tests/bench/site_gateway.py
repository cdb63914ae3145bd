"""A real ``surge gateway`` process for the benches, enrolled at a test backend that takes whatever it sends.

Place in the flow: between the benches and the tests' own backend (``tests/unit/gateway/support``), which
answers with real receipts. The gateway is the product as a person starts it; only limits are raised that
would refuse a flood from a few devices.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import fleet
import httpx
from gateway_http import ENROLMENT_TOKEN, TestBackend, running_backend

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / name for name in ("protocol", "gateway", "backend", "tools")]
READY_TIMEOUT_S = 120
POLL_S = 0.2  # each look at the status costs the gateway some time, with many devices some milliseconds
NO_SECRETS: Mapping[str, str] = MappingProxyType({})
# A flood from few devices: quotas would refuse it, and refusing isn't what is measured.
FLOOD_SETTINGS = """
[ingress]
reports_per_s_max = 100000.0
reports_burst_max = 1000000
pending_bytes_max = 67_108_864
"""


@dataclass
class Site:
    """A running gateway. ``process`` is it, not its broker."""

    folder: Path
    process: "subprocess.Popen[bytes]"

    def status(self) -> dict[str, Any]:
        """What /status says."""
        url = (self.folder / "state" / "status.url").read_text().strip()
        return dict(httpx.get(url + "/status", timeout=READY_TIMEOUT_S).json())

    def wait_until_ready(self, devices: int) -> None:
        """Connected to broker and backend, and told of every device."""
        until_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < until_s:
            if self.process.poll() is not None:
                raise SystemExit("the gateway ended before it was ready")
            if (self.folder / "state" / "status.url").exists():
                status = self.status()
                if not status["waiting_for"] and status["devices"]["enrolled"] == devices:
                    return
            time.sleep(POLL_S)
        raise SystemExit("the gateway didn't get ready")

    def wait_until_confirmed(self, count: int) -> None:
        """Receipts for ``count`` reports."""
        while self.status()["reports"]["confirmed"] < count:
            if self.process.poll() is not None:
                raise SystemExit("the gateway ended before it had receipts for all")
            time.sleep(POLL_S)


def environment() -> dict[str, str]:
    """For children: this process's, with our sources."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(folder) for folder in FOLDERS)}


def cpu_s(pid: int) -> float:
    """CPU time that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running_gateway(
    folder: Path,
    device_ids: Sequence[str],
    *,
    broker: str,
    sections: str,
    secrets: Mapping[str, str] = NO_SECRETS,
    profile: Path | None = None,
) -> Iterator[Site]:
    """Enrol and start a gateway in ``folder``; ``sections`` go into its settings, ``secrets`` are files."""
    with running_backend() as backend:
        add_devices(backend, device_ids)
        config = folder / "gateway.toml"
        config.write_text(
            f'[gateway]\nstate_dir = "state"\nbroker = "{broker}"\nlog_level = "warning"\n'
            f'[backend]\nurl = "{backend.url}"\n[status]\nenabled = true\n{sections}'
        )
        for name, value in {**secrets, "token": ENROLMENT_TOKEN}.items():
            (folder / name).write_text(value)
        token = str(folder / "token")
        _surge("gateway", "init", "--config", str(config), "--enrolment-token-file", token)
        command = [sys.executable, "-m", "surge_cli", "gateway", "--config", str(config)]
        if profile is not None:
            command[1:1] = ["-m", "cProfile", "-o", str(profile)]
        with subprocess.Popen(command, env=environment(), stdout=sys.stderr) as process:
            try:
                site = Site(folder, process)
                site.wait_until_ready(len(device_ids))
                yield site
            finally:
                process.terminate()
                process.wait()


def add_devices(backend: TestBackend, device_ids: Sequence[str]) -> None:
    """Enrol them all at once, with the fleet's password."""
    with backend.changed:
        backend.devices += [
            {
                "device_id": credential.device_id,
                "status": "active",
                "mqtt_bcrypt": credential.bcrypt,
                "mqtt_pbkdf2_sha512": credential.pbkdf2_sha512,
                "revision": revision,
            }
            for revision, credential in enumerate(fleet.credentials(device_ids), 1)
        ]


def _surge(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "surge_cli", *arguments], check=True, env=environment(), stdout=sys.stderr
    )


def free_port() -> int:
    """A TCP port of this machine that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((fleet.HOST, 0))
        return int(probe.getsockname()[1])
