"""The outbox on the file system that boards have, power cuts and wear included."""

import os
import subprocess
from pathlib import Path

from surge_cli.micropython import Interpreter
from surge_cli.sources import micropython_path


def test_littlefs_loses_and_doubles_nothing_and_wears_little(micropython: Interpreter) -> None:
    done = subprocess.run(
        [*micropython.argv, "-X", "heapsize=2M", str(Path(__file__).with_name("littlefs.py"))],
        env={**os.environ, "MICROPYPATH": micropython_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = {
        line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line[:4] in ("wear", "cuts")
    }
    reports, erases, programmed = said["wear"]
    assert said["cuts"] == ["39"]
    # A commit on littlefs copies the file's last block: one erase, half a block programmed on average.
    assert int(erases) < 1.5 * int(reports)
    assert int(programmed) < 4096 * int(reports)
