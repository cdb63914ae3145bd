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


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An enrolled gateway that is not started yet, and its backend with one device."""
    with running_site(tmp_path) as site:
        yield site
