"""One version, said in three places."""

import re
import tomllib
from pathlib import Path

from surge_host import __version__

ROOT = Path(__file__).resolve().parents[3]


def test_distribution_command_and_firmware_are_of_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    firmware = re.search(r'__version__ = "(.+)"', (ROOT / "firmware/surge_device/__init__.py").read_text())
    assert firmware is not None
    assert __version__ == project == firmware[1]
