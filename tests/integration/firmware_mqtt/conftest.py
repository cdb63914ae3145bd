"""Fixtures for the firmware's MQTT client against real brokers: broker, device process, observing client."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from surge_cli.micropython import Interpreter

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from private_brokers import BROKERS, DEVICE, Broker, Certificate  # noqa: E402
from programs import Device, Observer, Program  # noqa: E402


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    brokers: list[Broker] = []

    def start(name: str, tls: Certificate | None = None) -> Broker:
        brokers.append(BROKERS[name](tmp_path, tls))
        brokers[-1].start()
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.kill()


@pytest.fixture(params=sorted(BROKERS))
def broker(request: pytest.FixtureRequest, start_broker: Callable[..., Broker]) -> Broker:
    return start_broker(request.param)


@pytest.fixture
def start_program(micropython: Interpreter) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def start(name: str, *arguments: str) -> Program:
        programs.append(Program(micropython, name, *arguments))
        return programs[-1]

    yield start
    for each in programs:
        each.kill()


@pytest.fixture
def start_device(micropython: Interpreter) -> Iterator[Callable[..., Device]]:
    devices: list[Device] = []

    def start(port: int, **settings: Any) -> Device:
        given = {
            "host": "127.0.0.1",
            "port": port,
            "client_id": "dev",
            "user": DEVICE[0],
            "password": DEVICE[1],
            "backoff_base_ms": 50,
            "backoff_cap_ms": 200,
            **settings,
        }
        devices.append(Device(micropython, given))
        return devices[-1]

    yield start
    for device in devices:
        device.kill()


@pytest.fixture
def start_observer() -> Iterator[Callable[[int, str], Observer]]:
    observers: list[Observer] = []

    def start(port: int, filters: str) -> Observer:
        observers.append(Observer(port, filters))
        return observers[-1]

    yield start
    for observer in observers:
        observer.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """A CA of the test's own and a certificate of it for the name broker.test."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = tmp_path / "names"
    names.write_text("subjectAltName=DNS:broker.test")
    made = Certificate(tmp_path / "ca.pem", tmp_path / "broker.pem", tmp_path / "broker.key")
    authority_key, wish = tmp_path / "ca.key", tmp_path / "broker.csr"
    sign = ["-CA", made.authority, "-CAkey", authority_key, "-CAcreateserial", "-extfile", names]
    for arguments in (
        ["req", "-x509", *curve, "-keyout", authority_key, "-out", made.authority, "-subj", "/CN=Test CA"],
        ["req", *curve, "-keyout", made.key, "-out", wish, "-subj", "/CN=broker.test"],
        ["x509", "-req", "-in", wish, "-out", made.certificate, *sign],
    ):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
    return made
