"""`surge simulate` as a person starts it: a hostile fleet on a real network, and the books agree."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_S = 400  # a bound for a hung run, not a claim about speed
HOSTILE = ("--plan", "hostile", "--devices", "50", "--interval", "0.4", "--json")


def simulate(*arguments: str, temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "surge_cli", "simulate", *arguments],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, out + err
    return dict(json.loads(out.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.threat(1)
@pytest.mark.threat(3)
@pytest.mark.threat(4)
@pytest.mark.threat(5)
@pytest.mark.threat(7)
@pytest.mark.threat(18)
def test_a_hostile_fleet_and_the_books_agree(tmp_path: Path) -> None:
    found = outcome(
        simulate(*HOSTILE, "--reports", "750", "--gateways", "2", "--seed", "7", temporary=tmp_path)
    )
    assert len(found["checks"]) >= 12
    assert all(found["checks"].values()), found["violations"]
    counts = found["counts"]
    # Everything that can go wrong did: a run in which nothing happened would prove nothing.
    for name in (
        "withheld", "acks_withheld", "doubled", "held_back", "power_cuts", "lost_for_ever", "equivocations",
        "forks", "replays", "replays_elsewhere", "replays_on_foreign_topics", "replays_in_foreign_names",
        "flood_garbage", "flood_bad_mac", "flood_bad_pack", "flood_repetition", "sent_again",
    ):  # fmt: skip
        assert counts.get(name, 0) > 0, name
    assert counts["readings"] == 750
    assert found["cloned_devices"] == found["devices_frozen"] == 2
    rejected = found["reports_rejected"]
    for reason in ("duplicate", "equivocation", "forked_history", "device_frozen", "bad_mac", "malformed"):
        assert rejected.get(reason, 0) > 0, reason
    for reason in ("over_quota", "malformed", "id_mismatch", "duplicate"):
        assert found["refused_by_gateways"].get(reason, 0) > 0, reason
    honest = counts["sealed"] - counts["lost_for_ever"]
    # Of the two cloned devices less is accepted than they made; of all others exactly what they made.
    assert honest - 750 * 2 / 50 * 3 < found["reports_accepted"] <= honest + 2
    assert found["credited_microcredits"] > 0
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_simulation_still_ends_in_order(tmp_path: Path) -> None:
    process = simulate(
        "--devices", "5", "--interval", "0.2", "--json", "--seconds", "600", temporary=tmp_path
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "5 of 5 online" in line:
            break
    process.send_signal(signal.SIGINT)
    found = outcome(process)
    assert all(found["checks"].values()), found["violations"]
    assert found["counts"]["acknowledged"] == found["counts"]["sealed"] == found["reports_accepted"]
    assert list(tmp_path.iterdir()) == []
