"""The demo as a person starts it: every part real, every figure consistent, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FIELDS = {
    "devices": int,
    "interpreter": str,
    "reports_made": int,
    "reports_acknowledged": int,
    "reports_accepted": int,
    "reports_rejected": int,
    "telemetry_points": int,
    "credited_microcredits": int,
    "receipts_verified": int,
    "invariants": dict,
}
TIMEOUT_S = 300  # a bound for a hung run, not a claim about speed


def demo(*arguments: str, temporary: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    return subprocess.Popen(
        [sys.executable, "-m", "surge_cli", "demo", *arguments],
        env=environment,
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
def test_demo_runs_the_whole_network_and_every_invariant_holds(tmp_path: Path) -> None:
    found = outcome(demo("--seconds", "8", "--json", "--interval", "0.5", temporary=tmp_path))
    assert {name: type(found[name]) for name in FIELDS} == FIELDS
    assert found["devices"] == 3
    assert "MicroPython" in found["interpreter"]
    assert len(found["invariants"]) >= 7
    assert all(found["invariants"].values()), found
    assert found["reports_made"] >= found["reports_acknowledged"] >= 3 * 8
    # What the gateway has on disk but the device has not heard of yet may be accepted too, never less.
    assert found["reports_acknowledged"] <= found["reports_accepted"] <= found["reports_made"]
    assert found["reports_rejected"] == 0
    assert found["telemetry_points"] >= 5 * found["reports_accepted"]
    assert found["credited_microcredits"] > 0
    assert found["receipts_verified"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_interrupted_demo_still_ends_in_order(tmp_path: Path) -> None:
    process = demo("--json", "--devices", "1", "--interval", "0.5", temporary=tmp_path)
    assert process.stderr is not None
    for line in process.stderr:  # the first line of the flow: the network is up
        if " accepted" in line:
            break
    process.send_signal(signal.SIGINT)
    found = outcome(process)
    assert found["devices"] == 1
    assert all(found["invariants"].values()), found
    assert list(tmp_path.iterdir()) == []


def test_wrong_options_are_named(tmp_path: Path) -> None:
    for arguments, where in (
        (("--devices", "0"), "--devices 0"),
        (("--seconds", "0"), "--seconds 0"),
        (("--keep", str(tmp_path)), str(tmp_path)),
    ):
        process = demo(*arguments, temporary=tmp_path)
        _out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 2
        assert where in err
        assert "remedy:" in err
