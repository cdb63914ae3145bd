"""A real MicroPython, killed while it writes to a real directory, again and again."""

import os
import random
import subprocess
from pathlib import Path

from surge_cli.micropython import Interpreter
from surge_cli.sources import micropython_path

LIVES = 12


def test_a_killed_process_loses_and_doubles_no_reading(micropython: Interpreter, tmp_path: Path) -> None:
    rng = random.Random(3)
    stored: set[int] = set()
    acked: set[int] = set()
    sent: dict[int, tuple[str, str]] = {}
    first = 1
    for boot in range(1, LIVES + 1):
        script = [str(Path(__file__).with_name("killed.py")), str(tmp_path / "outbox"), str(boot), str(first)]
        process = subprocess.Popen(
            [*micropython.argv, "-X", "heapsize=256k", *script],
            env={**os.environ, "MICROPYPATH": micropython_path()},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process:
            lines = [process.stdout.readline() for _ in range(rng.randrange(1, 400))]
            process.kill()
            lines += [line for line in process.stdout.readlines() if line.endswith("\n")]
        present = lines[0].split()
        assert present[0] == "present", lines[0]
        held = [int(number) for number in present[1:]]
        assert len(held) == len(set(held))
        assert not stored - acked - set(held)
        for line in lines[1:]:
            event, number, *rest = line.split()
            if event == "stored":
                stored.add(int(number))
            elif event == "acked":
                acked.add(int(number))
            else:
                assert sent.setdefault(int(number), (rest[0], rest[1])) == (rest[0], rest[1])
        first = max([first, *stored, *held]) + 2  # one reading may have been stored but not told of
    assert len(sent) > 100
    assert len(set(sent.values())) == len(sent)
