"""Backends whose databases lie on simulated disks."""

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from database_site import Disks, Prepared, prepare

from surge_backend.db import engine, migrations

# Small, so that a plan brings the WAL over several times, begins it anew and cuts it back.
WAL_PAGES_MAX = 40
WAL_LEN_KEPT_MAX = 60_000


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disks]:
    """Databases that are opened in the folders of its disks are read and written through them."""
    disks = Disks(tmp_path)
    monkeypatch.setattr(engine, "create_engine", functools.partial(engine.create_engine, module=disks.module))
    monkeypatch.setattr(engine, "WAL_PAGES_MAX", WAL_PAGES_MAX)
    monkeypatch.setattr(engine, "WAL_LEN_KEPT_MAX", WAL_LEN_KEPT_MAX)
    # hundreds of starts: the migrations' sources are read once
    monkeypatch.setattr(migrations, "_scripts", functools.cache(migrations._scripts))
    return disks


@pytest.fixture
def prepared(disks: Disks, open_at: Callable[[str], Any]) -> Callable[[int], Prepared]:
    """`prepared(seed)`: a plan to be run with faults."""
    return functools.partial(prepare, disks, open_at)
