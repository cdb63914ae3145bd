"""Ten kills in a small network: a short `make chaos`, so that what it proves is proved at each change."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("run_chaos.py")
SEED = 1
KILLS = 10
TIMEOUT_S = 600  # a bound for a hung run, not a claim about speed


@pytest.mark.slow
def test_ten_kills_and_the_books_agree(tmp_path: Path) -> None:
    wanted = {
        "seed": SEED, "kills": KILLS, "gateways": 1, "boards": 2, "devices": 20, "pace": 0.3,
        "keep": tmp_path / "chaos",
    }  # fmt: skip
    arguments = [text for name, value in wanted.items() for text in (f"--{name}", str(value))]
    ran = subprocess.run(
        [sys.executable, PROGRAM, "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["good"]
    assert found["kills"] >= KILLS
    assert {row["victim"] for row in found["deeds"] if row["deed"] == "kill"} == {
        "backend", "broker", "board", "gateway",
    }  # fmt: skip
    assert len(found["checks"]) >= 18
    assert found["reports_accepted"] == found["reports_acknowledged"] > 100
    assert "all agrees" in ran.stderr


def test_wrong_options_are_named(tmp_path: Path) -> None:
    for arguments, part in (
        (("--kills", "0"), "--kills 0"),
        (("--boards", "65"), "--boards 65"),
        (("--keep", str(tmp_path)), str(tmp_path)),
    ):
        ran = subprocess.run(
            [sys.executable, PROGRAM, *arguments],
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 2
        assert part in ran.stderr
        assert "remedy:" in ran.stderr
