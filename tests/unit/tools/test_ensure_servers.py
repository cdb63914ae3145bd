"""Servers for the tests: used where they are, unpacked where they are not, never installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import ensure_servers

PLAN = """NOTE: This is only a simulation!
Inst libcjson1 (1.7.15-1+deb12u2 Debian:12.11/oldstable [amd64])
Inst libc6 [2.36-9+deb12u9] (2.36-9+deb12u10 Debian:12.11/oldstable [amd64])
Inst libc6:i386 (2.36-9+deb12u10 Debian:12.11/oldstable [i386])
Inst mosquitto (2.0.11-1.2+deb12u2 Debian:12.11/oldstable [amd64])
Conf libcjson1 (1.7.15-1+deb12u2 Debian:12.11/oldstable [amd64])
"""


def test_the_plan_names_what_is_missing_but_never_the_c_library() -> None:
    assert ensure_servers.packages_to_unpack(PLAN) == ["libcjson1", "mosquitto"]


def test_what_is_on_path_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for program in ensure_servers.SERVERS:
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    ensure_servers.ensure_servers(tmp_path / "servers")

    assert not (tmp_path / "servers").exists()


def test_without_apt_the_missing_programs_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ensure_servers, "SERVERS", {"no-such-server": "no-such-package"})
    monkeypatch.setenv("PATH", "")

    assert ensure_servers.main(["--into", str(tmp_path / "servers")]) == 1
    text = capsys.readouterr().err
    assert "no-such-server" in text
    assert "remedy:" in text


@pytest.mark.slow
def test_a_missing_program_is_unpacked_and_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Debian's smallest program stands for a server, and apt is told that it is not installed."""
    state = tmp_path / "status"
    installed = Path("/var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n")
    state.write_text("\n\n".join(entry for entry in installed if not entry.startswith("Package: hello\n")))
    settings = tmp_path / "apt.conf"
    settings.write_text(f'Dir::State::status "{state}";\n')
    monkeypatch.setenv("APT_CONFIG", str(settings))
    monkeypatch.setattr(ensure_servers, "SERVERS", {"hello": "hello"})
    monkeypatch.setattr(
        ensure_servers, "find_server", lambda program, into: shutil.which(program, path=str(into / "bin"))
    )
    into = tmp_path / "servers"

    ensure_servers.ensure_servers(into)

    result = subprocess.run(
        [into / "bin" / "hello"],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "Hello, world!\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apt.conf", "servers", "status"]
