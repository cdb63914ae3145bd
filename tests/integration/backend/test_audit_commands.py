"""`surge export` and `surge verify` as a stranger uses them, against a backend that runs."""

import io
import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from surge_cli.main import main

from .conftest import START_TIMEOUT_S, Backend, Device, Gateway, bearer, environment, surge


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A `surge` command to its end, in this process: importing everything anew takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def run_alone(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A `surge` command to its end, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "surge_cli", *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )


def auditor_token(backend: Backend) -> Path:
    out = backend.folder / "auditor.token"
    made = surge(
        "token", "--config", str(backend.config), "--role", "auditor", "--out", str(out), cwd=backend.folder
    )
    assert made.returncode == 0, made.stderr
    return out


def settle(backend: Backend, gateway: Gateway, reports: list[bytes]) -> None:
    answer = backend.submit(gateway, gateway.batch(reports, backend.now_ms(gateway)))
    assert answer.status_code == 201, answer.text


def populate(backend: Backend) -> tuple[Gateway, list[Device]]:
    """Two owners, replays and strangers, a retired device, a second tariff."""
    _, owner = backend.owner("Ada")
    _, operator = backend.owner("Bob")
    gateway = backend.gateway(operator)
    devices = [backend.device(owner) for _ in range(3)]
    first = [device.report() for device in devices for _ in range(20)]
    settle(backend, gateway, first)
    settle(backend, gateway, [*first[:5], b"no report", devices[0].report()])
    backend.post(f"/v1/devices/{devices[2].device_id}/retire", owner, {"reason": "sold"}, 204)
    prices = {"sample_microcredits": 7, "kib_microcredits": 3, "gateway_share_bp": 1_000}
    backend.post("/v1/tariffs", backend.admin, prices)
    settle(backend, gateway, [device.report() for device in devices])
    return gateway, devices


def three_lines(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2, and an error as people get them."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 3, done.stderr
    assert lines[1].startswith("  where:  ")
    assert lines[2].startswith("  remedy: ")
    for word in words:
        assert word in done.stderr


@pytest.mark.threat(13)
def test_a_stranger_checks_a_running_backend_and_an_export_of_it(backend: Backend) -> None:
    backend.start()
    populate(backend)
    here = backend.folder
    token = auditor_token(backend)
    key = backend.get("/v1/log/key")["log_public_key"]

    live = run_alone("verify", backend.url, "--token-file", token, "--log-key", key, cwd=here)
    assert live.returncode == 0, (live.stdout, live.stderr)
    assert live.stdout.endswith("Everything that was checked is right.\n")
    assert "the one that you gave" in live.stdout
    assert "MACs of 69 reports" in live.stdout

    public = run("verify", backend.url, "--json", cwd=here)
    assert public.returncode == 0, (public.stdout, public.stderr)
    result = json.loads(public.stdout)
    assert result["sound"]
    assert not result["full"]
    assert (result["tree_size"], result["checked"]["receipts"]) == (3, 3)

    assert run("export", backend.url, "--token-file", token, "--out", "all.surge", cwd=here).returncode == 0
    assert (here / "all.surge").stat().st_mode & 0o777 == 0o600
    offline = run(
        "export", "--config", backend.config, "--out", "db.surge", "--device-keys-out", "keys", cwd=here
    )
    assert offline.returncode == 0, offline.stderr
    assert (here / "keys").stat().st_mode & 0o777 == 0o600
    for name in ("all.surge", "db.surge"):
        checked = run("verify", name, "--device-keys", "keys", "--json", cwd=here)
        assert checked.returncode == 0, (checked.stdout, checked.stderr)
        assert json.loads(checked.stdout)["checked"]["MACs"] == 69
    for secret in backend.secrets:
        for name in ("all.surge", "db.surge", "keys"):
            assert secret.encode() not in (here / name).read_bytes()
    assert backend.stop() == 0


@pytest.mark.threat(13)
def test_a_log_that_was_cut_or_forked_between_two_visits_is_found(backend: Backend) -> None:
    backend.start()
    gateway, devices = populate(backend)
    here = backend.folder
    token = auditor_token(backend)
    verify = ("verify", backend.url, "--token-file", str(token), "--remember", "seen.json")
    backend.stop()
    shutil.copytree(backend.data, here / "backup")
    position = gateway.next_seq, gateway.previous
    backend.start()
    settle(backend, gateway, [devices[0].report()])
    first = run("verify", backend.url, *verify[2:], cwd=here)
    assert first.returncode == 0, (first.stdout, first.stderr)
    assert "holds it to it from now on" in first.stdout
    assert run("verify", backend.url, *verify[2:], cwd=here).returncode == 0

    backend.stop()
    shutil.rmtree(backend.data)
    shutil.copytree(here / "backup", backend.data)
    backend.start()
    for public in (False, True):
        arguments = ("--remember", "seen.json") if public else verify[2:]
        cut = run("verify", backend.url, *arguments, cwd=here)
        assert cut.returncode == 1, (cut.stdout, cut.stderr)
        assert "LIE (head): the log was cut" in cut.stdout

    gateway.next_seq, gateway.previous = position
    for _ in range(3):  # longer than before, with other entries
        settle(backend, gateway, [devices[1].report()])
    for arguments in (verify[2:], ("--remember", "seen.json")):
        forked = run("verify", backend.url, *arguments, cwd=here)
        assert forked.returncode == 1, (forked.stdout, forked.stderr)
        assert "LIE (head): the log was forked" in forked.stdout
        assert "where      head of 4 entries" in forked.stdout
    head = backend.request("GET", "/v1/log/head").content
    (here / "head").write_bytes(head)
    assert run("verify", backend.url, "--since", "head", cwd=here).returncode == 0


def test_rows_that_somebody_changed_in_the_database_are_found(backend: Backend) -> None:
    backend.start()
    populate(backend)
    token = auditor_token(backend)
    backend.stop()
    with sqlite3.connect(backend.database) as database:
        database.execute("UPDATE accounts SET balance = balance + 1 WHERE id <> 'issuance' AND balance > 0")
        database.execute("UPDATE device_totals SET samples = samples + 1")
    database.close()
    backend.start()
    arguments = ("verify", backend.url, "--token-file", str(token))
    one = run(*arguments, cwd=backend.folder)
    assert one.returncode == 1, (one.stdout, one.stderr)
    assert "LIE (device): samples stored wrongly" in one.stdout
    every = run(*arguments, "--all", "--json", cwd=backend.folder)
    assert every.returncode == 1
    kinds = [finding["kind"] for finding in json.loads(every.stdout)["findings"]]
    assert kinds == ["device"] * 3 + ["account"] * 2


def test_what_a_person_does_wrong_is_three_lines(backend: Backend) -> None:
    here = backend.folder
    (here / "text").write_text("hello")
    (here / "empty").touch()
    three_lines(run("verify", "absent", cwd=here), "absent", "No such file")
    three_lines(run("verify", here, cwd=here), "Is a directory")
    three_lines(run("verify", "text", cwd=here), "not an export of Surge", "byte 0")
    three_lines(run("verify", "empty", cwd=here), "the export is empty")
    three_lines(run("verify", "text", "--log-key", "abc", cwd=here), "--log-key", "43 characters")
    three_lines(run("verify", "text", "--since", "empty", cwd=here), "no signed head")
    three_lines(run("verify", "text", "--remember", "text", cwd=here), "an earlier")
    three_lines(run("verify", "text", "--device-keys", "text", cwd=here), "line 1")
    three_lines(run("verify", "text", "--token-file", "text", cwd=here), "needs no token")
    three_lines(run("verify", "http://127.0.0.1:9", cwd=here), "doesn't answer")
    three_lines(run("verify", "ftp://there", cwd=here), "not the address")
    three_lines(run("verify", "http://127.0.0.1:9", "--token-file", "text", cwd=here), "no token")
    three_lines(run("export", "--out", "x", cwd=here), "nothing to export")
    three_lines(run("export", "--config", "absent.toml", "--out", "x", cwd=here), "absent.toml")
    three_lines(run("export", "http://127.0.0.1:9", "--out", "x", cwd=here), "doesn't answer")
    assert not (here / "x").exists()
    three_lines(run("export", "http://127.0.0.1:9", "--out", "text", cwd=here), "exists already")

    backend.start()
    gateway, _ = populate(backend)
    (here / "gateway.token").write_text(gateway.token)
    refused = run("verify", backend.url, "--token-file", "gateway.token", cwd=here)
    three_lines(refused, "refuses the token", "auditor or admin")
    there = backend.url.replace("127.0.0.1", "surge.example")
    three_lines(run("verify", there, "--token-file", "gateway.token", cwd=here), "in the clear")
    assert run("export", backend.url, "--out", "public.surge", cwd=here).returncode == 0
    (here / "cut").write_bytes((here / "public.surge").read_bytes()[:-20])
    three_lines(run("verify", "cut", cwd=here), "cut short")
    answer = backend.request("GET", "/v1/log/export", params={"from": 99})
    assert answer.status_code == 404
    assert backend.request("GET", "/v1/export", headers=bearer("x")).status_code == 401
