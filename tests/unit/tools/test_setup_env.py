"""The environment behind `make`: nothing to do means nothing done, and old Pythons get a clear message."""

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

import setup_env


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "requirements").mkdir(parents=True)
    (folder / "requirements" / "dev.txt").write_text("x==1")
    (folder / "pyproject.toml").write_text("")
    monkeypatch.setattr(setup_env, "REPOSITORY", str(folder))
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have run; each is said to have succeeded."""
    commands: list[list[str]] = []

    def record(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        if "venv" in command:
            Path(command[-1], "bin").mkdir(parents=True)
            Path(command[-1], "bin", "python").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", record)
    return commands


def test_the_lock_is_installed_by_hash_and_then_the_project(
    repository: Path, started: list[list[str]], tmp_path: Path
) -> None:
    assert setup_env.main(["--venv", str(tmp_path / "venv"), "dev"]) == 0

    installs = [command for command in started if "install" in command]
    assert "--require-hashes" in installs[0]
    assert installs[0][-1] == str(repository / "requirements" / "dev.txt")
    assert installs[1][-2:] == ["--editable", str(repository)]


def test_a_second_run_starts_nothing(repository: Path, started: list[list[str]], tmp_path: Path) -> None:
    arguments = ["--venv", str(tmp_path / "venv"), "dev"]
    setup_env.main(arguments)
    started.clear()

    setup_env.main(arguments)

    assert started == []


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements/dev.txt", "requirements/new.txt"])
def test_a_changed_input_installs_again(
    repository: Path, started: list[list[str]], tmp_path: Path, changed: str
) -> None:
    arguments = ["--venv", str(tmp_path / "venv"), "dev"]
    setup_env.main(arguments)
    started.clear()
    (repository / changed).write_text("y==2")

    setup_env.main(arguments)

    assert any("install" in command for command in started)


def test_board_stubs_get_a_folder_each(repository: Path, started: list[list[str]], tmp_path: Path) -> None:
    setup_env.main(["--venv", str(tmp_path / "venv"), "--board-stubs", "dev"])

    targets = [command[command.index("--target") + 1] for command in started if "--target" in command]
    assert targets == [str(tmp_path / "venv" / "stubs" / board) for board in ("esp32", "rp2")]


def test_a_folder_with_something_else_is_left_alone(repository: Path, tmp_path: Path) -> None:
    precious = tmp_path / "venv" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")

    with pytest.raises(SystemExit, match="SURGE_VENV"):
        setup_env.main(["--venv", str(tmp_path / "venv"), "dev"])
    assert precious.exists()


def test_an_old_python_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))

    with pytest.raises(SystemExit, match=r"(?s)Python 3\.11 or newer is needed.*remedy: install python3\.11"):
        setup_env.main(["--venv", str(tmp_path), "dev"])


def test_a_failed_install_is_not_taken_for_done(
    repository: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(command: list[str], doing: str) -> NoReturn:
        sys.exit(f"surge: {doing} failed")

    arguments = ["--venv", str(tmp_path / "venv"), "dev"]
    with monkeypatch.context() as patch:
        patch.setattr(setup_env, "_run", fail)
        with pytest.raises(SystemExit, match=r"installing requirements/dev\.txt failed"):
            setup_env.main(arguments)
    started.clear()

    setup_env.main(arguments)

    assert any("install" in command for command in started)
