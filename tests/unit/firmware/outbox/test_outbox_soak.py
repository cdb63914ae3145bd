"""The outbox in the heap of a small board, for 10,000 readings."""

import os
import subprocess
from pathlib import Path

import pytest

from surge_cli.micropython import Interpreter
from surge_cli.sources import micropython_path


@pytest.mark.slow
def test_ten_thousand_readings_leave_the_heap_flat(micropython: Interpreter, tmp_path: Path) -> None:
    """256 KiB on a 64-bit interpreter stand for 128 KiB on a board."""
    script = str(Path(__file__).with_name("soak.py"))
    done = subprocess.run(
        [*micropython.argv, "-X", "heapsize=256k", script, str(tmp_path / "outbox")],
        env={**os.environ, "MICROPYPATH": micropython_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, sealed, dropped, damaged, syncs, *free = done.stdout.split()
    assert (int(sealed), int(dropped), int(damaged)) == (10_000, 0, 0)
    assert (
        int(syncs) < 1.4 * 10_000
    )  # one for each seal, one for each reading that waited, a few for segments
    levels = [int(level) for level in free]
    assert min(levels[1:]) >= levels[0] - 1024, levels
    files = list((tmp_path / "outbox").iterdir())
    assert 1 <= len(files) <= 3
