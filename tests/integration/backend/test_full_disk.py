"""A real backend on a disk that really runs full, database and telemetry together (threat 15)."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_disk import BALLAST, small_disk

SOURCES = os.pathsep.join(entry for entry in sys.path if entry)
REPORTS = 200  # in a batch that a full disk has no room for


def check(backend: Any) -> None:
    """Every invariant, by the command that people use."""
    assert backend.stop() == 0
    done = backend.run("check")
    assert done.returncode == 0, done.stdout
    assert "broken" not in done.stdout


@pytest.mark.threat(15)
@pytest.mark.parametrize("full_backend", [True, False], indirect=True, ids=["full", "limited"])
def test_a_full_disk_answers_503_and_recovers_without_a_restart(full_backend: Any) -> None:
    backend = full_backend
    backend.start()
    _, owner = backend.owner("Ada")
    gateway, device = backend.gateway(owner), backend.device(owner)
    now_ms = backend.now_ms(gateway)
    for _ in range(3):
        envelope = gateway.batch([device.report() for _ in range(20)], now_ms)
        assert backend.submit(gateway, envelope).status_code == 201
    for round_number in range(3):
        backend.disk.fill(backend.process.pid)
        envelope = gateway.batch([device.report() for _ in range(REPORTS)], now_ms)
        for _ in range(5):
            refused = backend.submit(gateway, envelope)
            assert (refused.status_code, refused.json()["code"]) == (503, "store_full")
            assert refused.headers["retry-after"]
        assert backend.request("GET", "/healthz").status_code == 503
        own = backend.get("/v1/gateways/self", {"Authorization": f"Bearer {gateway.token}"})
        assert own["next_batch_seq"] == 3 + round_number  # reading goes on
        backend.disk.free()
        assert backend.submit(gateway, envelope).status_code == 201
    assert backend.get("/healthz")["database"]["ok"]
    stats = backend.wait_for(lambda found: found["telemetry_points"] == 60 + 3 * REPORTS)
    assert (stats["reports_accepted"], stats["tree_size"], stats["telemetry_lag"]) == (60 + 3 * REPORTS, 6, 0)
    assert "store_fault" in backend.text
    check(backend)


@pytest.mark.threat(15)
def test_a_backend_killed_on_a_full_disk_starts_and_takes_up_where_it_was(full_backend: Any) -> None:
    backend = full_backend
    backend.start()
    _, owner = backend.owner("Ada")
    gateway, device = backend.gateway(owner), backend.device(owner)
    now_ms = backend.now_ms(gateway)
    answered = gateway.batch([device.report() for _ in range(20)], now_ms)
    answer = backend.submit(gateway, answered)
    backend.disk.fill(backend.process.pid)
    waiting = gateway.batch([device.report() for _ in range(REPORTS)], now_ms)
    assert backend.submit(gateway, waiting).status_code == 503
    backend.stop(signal.SIGKILL)
    backend.start()
    again = backend.submit(gateway, answered)
    assert (again.status_code, again.content) == (200, answer.content)
    early = backend.submit(gateway, waiting)  # the WAL was brought over, and its room may be enough
    assert early.status_code in (201, 503)
    backend.disk.free()
    assert backend.submit(gateway, waiting).status_code == (200 if early.status_code == 201 else 201)
    backend.wait_for(lambda found: found["telemetry_points"] == 20 + REPORTS)
    check(backend)


@pytest.mark.threat(15)
def test_a_start_that_has_no_room_says_so_and_what_to_do(full_backend: Any) -> None:
    backend = full_backend
    if not backend.disk.is_mounted:
        return  # a limit ends with its process: there is no full disk to start on
    backend.start()
    assert backend.stop() == 0  # in order, so that SQLite has removed the files that it needs to open again
    backend.disk.fill(0)
    done = backend.run()
    assert done.returncode == 2
    what, where, remedy = done.stderr.splitlines()[:3]
    assert what == "surge: the database can't be written"
    assert "surge.db" in where
    assert "free space" in remedy
    backend.disk.free()
    backend.start()


@pytest.mark.threat(15)
def test_an_init_that_has_no_room_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2 << 20) as disk:
        if not disk.is_mounted:
            return  # a limit is set on a process that runs

        def init() -> "subprocess.CompletedProcess[str]":
            command = (*disk.inside, sys.executable, "-m", "surge_cli", "backend", "init")
            config = str(disk.place / "backend.toml")
            return subprocess.run(
                [*command, "--config", config],
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": SOURCES},
            )

        disk.fill(0)
        ballast = disk.folder / BALLAST
        for _ in range(12):  # another page or two each time: the next file is the one without room
            done = init()
            assert done.returncode == 2, done.stderr
            what, where, remedy = done.stderr.splitlines()
            assert "written" in what or "made" in what
            assert "disk" in where
            assert "space" in remedy or "permissions" in remedy
            assert [path.name for path in disk.folder.iterdir()] == [BALLAST]
            os.truncate(ballast, ballast.stat().st_size - 2 * os.sysconf("SC_PAGE_SIZE"))
        disk.free()
        assert init().returncode == 0
