"""Which MicroPython is taken, and that the one which is fetched runs."""

import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from surge_cli import micropython as subject
from surge_cli.micropython import Interpreter, MicroPythonUnavailable, find_micropython
from surge_cli.sources import micropython_path


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing of the caller's choices, and a PATH on which there is nothing; returns that folder."""
    for name in (subject.ENV_COMMAND, subject.ENV_ALLOW_UNVERIFIED):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, body: str, name: str = "micropython") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def refuse_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(subject.ENV_MIRROR, "http://127.0.0.1:1/debian")


def test_the_one_that_is_named_comes_first(
    monkeypatch: pytest.MonkeyPatch, own_environment: Path, tmp_path: Path
) -> None:
    program(own_environment, "echo surge-probe 1 27 0")
    named = program(tmp_path, "echo surge-probe 1 24 1", name="my own")
    monkeypatch.setenv(subject.ENV_COMMAND, f"'{named}' -X heapsize=1m")

    assert find_micropython() == Interpreter((str(named), "-X", "heapsize=1m"), "1.24.1", "SURGE_MICROPYTHON")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo surge-probe 1 23 9", "it is 1.23; 1.24 or newer is needed"),
        ("echo \"ImportError: no module named 'ffi'\" >&2; exit 1", "no module named 'ffi'"),
        ("exit 0", "exit code 0"),
    ],
)
def test_a_named_one_that_will_not_do_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, message: str
) -> None:
    monkeypatch.setenv(subject.ENV_COMMAND, str(program(tmp_path, body)))

    with pytest.raises(MicroPythonUnavailable, match=message) as caught:
        find_micropython()
    assert subject.ENV_COMMAND in caught.value.where
    assert subject.ENV_COMMAND in caught.value.remedy


def test_a_named_one_that_does_not_exist_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(subject.ENV_COMMAND, "no-such-micropython")

    with pytest.raises(MicroPythonUnavailable, match="does not start"):
        find_micropython()


def test_one_on_path_is_used(own_environment: Path) -> None:
    path = program(own_environment, "echo surge-probe 1 26 0")

    assert find_micropython() == Interpreter((str(path),), "1.26.0", "PATH")


def test_one_on_path_that_is_too_old_is_passed_over_and_said(
    monkeypatch: pytest.MonkeyPatch, own_environment: Path, tmp_path: Path
) -> None:
    program(own_environment, "echo surge-probe 1 19 1")
    refuse_to_fetch(monkeypatch)
    told: list[str] = []

    with pytest.raises(MicroPythonUnavailable, match="can't be fetched"):
        find_micropython(tmp_path / "cache", tell=told.append)
    assert "1.24 or newer is needed" in told[0]


def test_a_mirror_out_of_reach_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refuse_to_fetch(monkeypatch)

    with pytest.raises(MicroPythonUnavailable) as caught:
        find_micropython(tmp_path / "cache", tell=lambda message: None)
    assert "http://127.0.0.1:1/debian" in caught.value.where
    assert subject.ENV_MIRROR in caught.value.remedy
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["micropython.lock"]


def test_a_system_that_debian_has_no_package_for_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "sparc64")

    with pytest.raises(MicroPythonUnavailable, match="no package to fetch") as caught:
        find_micropython(tmp_path)
    assert "sparc64" in caught.value.where


def test_a_cache_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(MicroPythonUnavailable, match="can't be written") as caught:
        find_micropython(tmp_path / "file" / "cache")
    assert str(tmp_path / "file") in caught.value.where


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Interpreter], list[str]]:
    """The real package, asked for by two callers at once: (cache folder, what they got, what was told)."""
    gpgv = shutil.which("gpgv")
    assert gpgv, "gpgv must be installed to check Debian's signature"
    cache = tmp_path_factory.mktemp("cache")
    only_gpgv = tmp_path_factory.mktemp("bin")
    (only_gpgv / "gpgv").symlink_to(gpgv)
    found: list[Interpreter] = []
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(subject.ENV_COMMAND, raising=False)
        patch.setenv("PATH", str(only_gpgv))
        callers = [
            threading.Thread(target=lambda: found.append(find_micropython(cache, tell=told.append)))
            for _ in range(2)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    return cache, found, told


def test_debians_package_is_fetched_once_for_two_callers(
    fetched: tuple[Path, list[Interpreter], list[str]],
) -> None:
    cache, found, told = fetched

    assert len(found) == 2
    assert found[0] == found[1]
    assert found[0].source == "Debian package"
    assert sum(message.startswith("fetching") for message in told) == 1
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_the_fetched_one_computes(fetched: tuple[Path, list[Interpreter], list[str]]) -> None:
    result = subprocess.run(
        [*fetched[1][0].argv, "-c", "print(1+1)"], capture_output=True, text=True, check=True
    )

    assert result.stdout == "2\n"


def test_the_fetched_one_imports_the_wire_format(fetched: tuple[Path, list[Interpreter], list[str]]) -> None:
    result = subprocess.run(
        [*fetched[1][0].argv, "-c", "import asyncio, surge_wire; print(surge_wire.__name__)"],
        env={**os.environ, "MICROPYPATH": micropython_path()},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (result.stdout, result.stderr) == ("surge_wire\n", "")


def test_a_second_call_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, fetched: tuple[Path, list[Interpreter], list[str]]
) -> None:
    refuse_to_fetch(monkeypatch)

    assert find_micropython(fetched[0]) == fetched[1][0]


def test_a_damaged_copy_is_fetched_again(
    monkeypatch: pytest.MonkeyPatch, fetched: tuple[Path, list[Interpreter], list[str]], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(fetched[0], cache, symlinks=True)
    for copy in cache.rglob("usr/bin/micropython"):
        copy.write_bytes(copy.read_bytes()[:1000])
    refuse_to_fetch(monkeypatch)

    # The mirror is out of reach here, so that it was asked shows in the error.
    with pytest.raises(MicroPythonUnavailable, match="can't be fetched"):
        find_micropython(cache, tell=lambda message: None)
    assert not list(cache.rglob("usr/bin/micropython"))


def test_a_machine_that_cannot_verify_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PATH is empty here, so there is no gpgv."""
    told: list[str] = []

    with pytest.raises(MicroPythonUnavailable, match="gpgv is not here") as caught:
        find_micropython(tmp_path / "cache", tell=told.append)
    assert f"{subject.ENV_ALLOW_UNVERIFIED}=1" in caught.value.remedy
    assert not list((tmp_path / "cache").glob("micropython-*"))
