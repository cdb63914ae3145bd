"""Fixtures: a compiled firmware, a private broker, a gateway, devices; all ended with the test."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from surge_cli.firmware_build import build_firmware
from surge_cli.micropython import Interpreter
from surge_wire.hkdf import mqtt_password

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from device_process import DEVICE, SECRET, DeviceProcess, provision  # noqa: E402
from private_broker import PrivateBroker  # noqa: E402
from small_gateway import SmallGateway  # noqa: E402


@pytest.fixture(scope="session")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_firmware(tmp_path_factory.mktemp("device") / "firmware")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PrivateBroker]:
    made = PrivateBroker(tmp_path, DEVICE, mqtt_password(SECRET))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def gateway(broker: PrivateBroker) -> Iterator[SmallGateway]:
    made = SmallGateway(broker.port, DEVICE, SECRET)
    yield made
    made.close()


@pytest.fixture
def data(tmp_path: Path, broker: PrivateBroker) -> Path:
    """A provisioned data directory."""
    return provision(tmp_path / "device", broker.port)


@pytest.fixture
def start(micropython: Interpreter, firmware: Path) -> Iterator[Callable[..., DeviceProcess]]:
    """``start(data directory)``, or with ``script=`` and its further arguments."""
    devices: list[DeviceProcess] = []

    def begin(data: Path, *arguments: str, script: Path | None = None) -> DeviceProcess:
        devices.append(
            DeviceProcess(micropython, firmware, script or firmware / "main.py", str(data), *arguments)
        )
        return devices[-1]

    yield begin
    for device in devices:
        device.kill()
