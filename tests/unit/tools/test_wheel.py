"""What is built is what works: the wheel carries all packages, the boards' sources and the command."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_every_package_and_the_firmware(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    folders = {name.split("/")[0] for name in names}
    assert {"surge_wire", "surge_host", "surge_gateway", "surge_backend", "surge_cli"} <= folders
    committed = {
        path.relative_to(REPOSITORY / "firmware") for path in (REPOSITORY / "firmware").rglob("*.py")
    }
    shipped = {Path(name).relative_to("surge_cli/_firmware") for name in names if "/_firmware/" in name}
    assert committed <= shipped
    assert not [name for name in names if "__pycache__" in name]


def test_an_installed_wheel_finds_its_own_firmware(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = "from surge_cli import sources; print(sources.firmware_folder(), sources.micropython_path())"
    result = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    folder, path = result.stdout.split()
    assert folder == str(tmp_path / "surge_cli" / "_firmware")
    assert path == f".frozen:{tmp_path}:{folder}"


def test_the_wheel_has_the_surge_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        text = archive.read(name).decode()

    assert "surge = surge_cli.main:main" in text
