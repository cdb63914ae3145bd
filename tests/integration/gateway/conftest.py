"""Real gateway processes (`surge gateway`) with their own nats-server, a real MQTT device, and the test
backend.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "gateway" / "support"))
sys.path.insert(0, str(Path(__file__).parent))

from gateway_site import Site, running_site
from small_disk import SmallDisk, small_disk

DISK_LEN = 24 << 20


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An enrolled gateway that is not started yet, and its backend with one device."""
    with running_site(tmp_path) as site:
        yield site


@pytest.fixture
def full_site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Site, SmallDisk]]:
    """As `site`, with the gateway's and its broker's folders on a disk that can be filled; parametrised with
    False, on one that the limit of a process stands for.
    """
    with small_disk(tmp_path / "disk", DISK_LEN, getattr(request, "param", True)) as disk:
        for name in ("state", "broker"):
            (disk.folder / name).mkdir(mode=0o700)
            (tmp_path / name).symlink_to(disk.folder / name)
        with running_site(tmp_path) as site:
            yield site, disk
