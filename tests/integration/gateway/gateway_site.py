"""A site for integration tests: backend, gateway process, broker port, devices over MQTT.

Nothing here sleeps: a device sends what is not acknowledged again until it is, as real ones do, and tests
wait for conditions that other threads signal.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
from gateway_http import ENROLMENT_TOKEN, TestBackend, running_backend
from gateway_reports import Device, make_device

from surge_wire.ack import decode_ack
from surge_wire.hkdf import mqtt_password
from surge_wire.report import decode_report, open_report

RESEND_S = 0.2  # a device sends again what is not acknowledged after so long


class MqttDevice:
    """A device with an outbox: reports stay in it until an ack names them."""

    def __init__(self, device: Device, port: int) -> None:
        self.device = device
        self.outbox: dict[int, bytes] = {}
        self.acknowledged: list[bytes] = []
        self.commands: list[bytes] = []
        self.changed = threading.Condition()
        self.on_ack: Callable[[bytes], None] = lambda _report: None
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=device.device_id)
        client.username_pw_set(device.device_id, mqtt_password(device.key))
        state_topic = f"surge/1/{device.device_id}/state"
        client.will_set(state_topic, b"offline", 1, True)
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        self._client = client
        client.connect_async("127.0.0.1", port)
        client.loop_start()

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if not reason.is_failure:
            topics = [(f"surge/1/{self.device.device_id}/{channel}", 1) for channel in ("ack", "command")]
            client.subscribe(topics)
            client.publish(f"surge/1/{self.device.device_id}/state", b"online", 1, True)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        with self.changed:
            if message.topic.endswith("/command"):
                self.commands.append(message.payload)
            else:
                ack = decode_ack(message.payload)
                for first, last in ack.ranges:
                    for seq in range(first, last + 1):
                        self._acknowledge(seq)
            self.changed.notify_all()

    def _acknowledge(self, seq: int) -> None:
        report = self.outbox.pop(seq, None)
        if report is not None:
            self.acknowledged.append(report)
            self.on_ack(report)

    def make(self, count: int = 1, **more: object) -> None:
        """Put reports into the outbox and send them once."""
        with self.changed:
            for _ in range(count):
                report = self.device.report(**more)
                self.outbox[decode_report(open_report(report)[1].payload).seq] = report
                self._client.publish(self.device.topic, report)

    def until(self, condition: Callable[[], bool]) -> None:
        """Send again what is not acknowledged, until `condition` holds."""
        with self.changed:
            while not self.changed.wait_for(condition, RESEND_S):
                for report in list(self.outbox.values()):
                    self._client.publish(self.device.topic, report)

    def until_acknowledged(self) -> None:
        self.until(lambda: not self.outbox)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        self._client.publish(topic, payload, 0, retain)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Site:
    def __init__(self, folder: Path, backend: TestBackend, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.backend = backend
        self.port = free_port()
        self.config = folder / "gateway.toml"
        self.state_dir = folder / "state"
        self.process: subprocess.Popen[bytes] | None = None
        self._stack = stack
        self.write_config()
        (folder / "token").write_text(ENROLMENT_TOKEN)
        self.surge(
            "gateway", "init", "--config", str(self.config), "--enrolment-token-file", str(folder / "token")
        )
        self.device = make_device(1)
        backend.add_device(self.device)

    def write_config(self, more: str = "", gateway: str = "") -> None:
        self.config.write_text(
            f"""
[gateway]
state_dir = "state"
log_level = "warning"
{gateway}
[backend]
url = "{self.backend.url}"
retry_ms = 10
retry_max_ms = 100
refused_retry_ms = 200
[broker]
port = {self.port}
[mqtt]
reconnect_delay_ms = 20
reconnect_delay_ms_max = 200
[ingress]
reports_per_s_max = 100000.0
reports_burst_max = 100000
[registry]
poll_s = 0.1
[dispatch]
poll_s = 0.1
[transparency]
check_s = 0.2
[status]
enabled = true
{more}
"""
        )

    def surge(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "surge_cli", *arguments], capture_output=True, text=True, env=environment()
        )

    @contextlib.contextmanager
    def mosquitto(self) -> Iterator[None]:
        """A real Mosquitto on the site's port, with the files that `surge gateway mosquitto-files` writes."""
        folder = self.folder / "mosquitto"
        written = self.surge("gateway", "mosquitto-files", "--config", str(self.config), "--out", str(folder))
        assert written.returncode == 0, written.stderr
        conf = self.folder / "mosquitto.conf"
        # Started by root it would become another user, who can't read the files.
        user = "user root\n" if os.geteuid() == 0 else ""
        conf.write_text((folder / "mosquitto.conf").read_text() + user)
        program = shutil.which("mosquitto")
        assert program, "mosquitto isn't on PATH: `make test` supplies it"
        process = subprocess.Popen(
            [program, "-c", str(conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    def start(self) -> None:
        """Start the gateway; it is up when its broker lets devices in, which they try for themselves."""
        self.status_path.unlink(missing_ok=True)
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "surge_cli", "gateway", "--config", str(self.config)],
                env=environment(),
                stderr=log,
            )

    @property
    def log(self) -> str:
        """All that its gateways have said."""
        return (self.folder / "gateway.log").read_text()

    @property
    def status_path(self) -> Path:
        return self.state_dir / "status.url"

    def status(self) -> dict[str, Any]:
        return dict(httpx.get(self.status_path.read_text().strip() + "/status", trust_env=False).json())

    def kill(self) -> None:
        """As the out-of-memory killer does it; returns when its broker is gone too."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None
        wait_until_closed(self.port)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait()
        self.process = None
        return code

    def connect(self, device: Device | None = None) -> MqttDevice:
        connected = MqttDevice(device or self.device, self.port)
        self._stack.callback(connected.close)
        return connected

    def arrived(self, reports: list[bytes]) -> Callable[[], bool]:
        """Whether the backend has all of `reports`."""
        return lambda: set(reports) <= set(self.backend.reports)

    def broker_pid(self) -> int:
        """Of the nats-server that the gateway runs."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        (pid,) = {int(pid) for listing in children for pid in listing.read_text().split()}
        return pid


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_closed(port: int) -> None:
    """Return when nothing accepts connections at `port`: each that is open ends when its server does."""
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.recv(1)
        except OSError:
            return


def environment() -> dict[str, str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {name: value for name, value in os.environ.items() if not name.startswith("SURGE_")} | {
        "PYTHONPATH": path
    }


@contextlib.contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(running_backend())
        site = Site(folder, backend, stack)
        try:
            yield site
        finally:
            if site.process is not None:
                site.kill()
            if (folder / "gateway.log").exists():
                print(site.log)
