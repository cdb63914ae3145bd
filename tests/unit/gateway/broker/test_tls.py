"""TLS from the link to the embedded broker, with a certificate made for the test."""

import asyncio
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from surge_gateway.broker.embedded import EmbeddedBroker
from surge_gateway.broker.settings import BrokerSettings
from surge_gateway.mqtt import MqttLink, MqttSettings
from surge_host.mqtt_credentials import make_gateway_credential
from surge_host.settings_values import Secret

PASSWORD = "g" * 43
GATEWAY = make_gateway_credential("gaaaaaaaaaaaaaaaa", PASSWORD)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the openssl program to make a certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=broker"
    arguments = [*kind.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key]
    subprocess.run([program, *arguments], check=True, capture_output=True)
    return certificate, key


async def test_the_link_trusts_the_authority_it_is_given_and_no_other(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = BrokerSettings(port=port, folder=tmp_path / "broker", tls_certificate=certificate, tls_key=key)
    async with EmbeddedBroker(settings, GATEWAY, []):
        common = {"port": port, "user": GATEWAY.gateway_id, "password": Secret(PASSWORD), "tls": True}
        trusting = MqttLink(MqttSettings(**common, tls_authority=certificate), _ignore)
        refused = asyncio.Event()

        def jitter() -> float:  # asked for before the next attempt
            refused.set()
            return 0.0

        wary = MqttLink(MqttSettings(**common), _ignore, jitter=jitter)
        with capture_logs() as logs:
            runs = [asyncio.create_task(link.run()) for link in (trusting, wary)]
            await trusting.connected.wait()
            await refused.wait()
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
        assert not wary.connected.is_set()
        assert "certificate verify failed" in str([e for e in logs if e["event"] == "mqtt_connect_failed"])


def _ignore(topic: str, payload: bytes, retained: bool) -> None:
    pass
