"""Real MQTT brokers for the firmware's client, each private to a test: nats-server and Mosquitto.

Both know the users DEVICE (its own topics only) and ADMIN (everything), and nobody else. Both listen on
the loopback interface, on a port of the test's own, so that one can be killed and started again in the same
place.
"""

import os
import pwd
import queue
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

DEVICE = ("dev", "device-secret")
ADMIN = ("admin", "admin-secret")
HANG_S = 60  # waiting this long means that something hangs; nothing is asserted about time


@dataclass(frozen=True)
class Certificate:
    authority: Path
    certificate: Path
    key: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not on PATH; Debian's package is called {name.split('_')[0]}")
    return found


class Lines:
    """A stream's lines as they come, gathered by a thread; ``None`` is its end."""

    def __init__(self, stream: IO[str]) -> None:
        self._queue: queue.Queue[str | None] = queue.Queue()
        self.seen: list[str] = []
        self._stream = stream
        self._thread = threading.Thread(target=self._gather, daemon=True)
        self._thread.start()

    def _gather(self) -> None:
        for line in self._stream:
            self._queue.put(line)
        self._queue.put(None)

    def next(self) -> str | None:
        try:
            line = self._queue.get(timeout=HANG_S)
        except queue.Empty:
            raise AssertionError(f"nothing more came; so far: {self.seen}") from None
        if line is not None:
            self.seen.append(line)
        return line

    def wait_for(self, part: str) -> None:
        while (line := self.next()) is not None:
            if part in line:
                return
        raise AssertionError(f"ended before {part!r} came: {self.seen}")

    def close(self) -> None:
        """After the process ended."""
        self._thread.join()
        self._stream.close()


class Broker:
    """One server process; ``command`` and ``ready`` (a part of the line it prints when it listens) say
    which."""

    def __init__(self, port: int, command: list[str], ready: str) -> None:
        self.port = port
        self._command = command
        self._ready = ready
        self._process: subprocess.Popen[str] | None = None
        self._lines: Lines | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        self._lines = Lines(self._process.stderr)
        self._lines.wait_for(self._ready)

    def kill(self) -> None:
        if self._process is not None and self._lines is not None:
            self._process.kill()
            self._process.wait()
            self._lines.close()
            self._process = self._lines = None


def nats_broker(folder: Path, tls: Certificate | None = None) -> Broker:
    port = free_port()
    secured = f'tls {{ cert_file: "{tls.certificate}", key_file: "{tls.key}" }}' if tls else ""
    own = '["surge.1.dev.>", "surge.1.dev"]'
    configuration = folder / "nats.conf"
    configuration.write_text(
        f"""
        server_name: test
        listen: "127.0.0.1:-1"
        jetstream {{ store_dir: "{folder / "jetstream"}" }}
        mqtt {{
            listen: "127.0.0.1:{port}"
            {secured}
        }}
        authorization {{ users: [
            {{ user: {ADMIN[0]}, password: "{ADMIN[1]}" }}
            {{ user: {DEVICE[0]}, password: "{DEVICE[1]}", permissions: {{
                publish: {{ allow: {own} }}, subscribe: {{ allow: ["surge.1.dev.>", "$MQTT.sub.>"] }} }} }}
        ] }}
        """
    )
    return Broker(port, [program("nats-server"), "-c", str(configuration)], "Server is ready")


def mosquitto_broker(folder: Path, tls: Certificate | None = None) -> Broker:
    port = free_port()
    passwords, rights = folder / "passwords", folder / "rights"
    passwords.write_text("")
    passwords.chmod(0o600)
    for name, password in (DEVICE, ADMIN):
        subprocess.run([program("mosquitto_passwd"), "-b", str(passwords), name, password], check=True)
    rights.write_text(
        f"user {ADMIN[0]}\ntopic readwrite #\nuser {DEVICE[0]}\ntopic readwrite surge/1/dev/#\n"
    )
    rights.chmod(0o600)
    secured = f"certfile {tls.certificate}\nkeyfile {tls.key}\n" if tls else ""
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\n{secured}allow_anonymous false\npassword_file {passwords}\n"
        f"acl_file {rights}\nuser {pwd.getpwuid(os.getuid()).pw_name}\nmax_queued_messages 10000\n"
    )
    return Broker(port, [program("mosquitto"), "-c", str(configuration)], "running")


BROKERS: dict[str, Callable[..., Broker]] = {"nats": nats_broker, "mosquitto": mosquitto_broker}
