"""Files that are whole or absent, and locks that two can't have."""

import os
from pathlib import Path

import pytest

from surge_host.private_files import remove_leftovers, replace_file, take_lock


def test_a_file_is_replaced_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_replacement_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    replace_file(path, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_had_by_one_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = take_lock(path)
    with pytest.raises(BlockingIOError):
        take_lock(path)
    os.close(first)
    os.close(take_lock(path))


def test_what_a_crash_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    replace_file(path, b"whole")
    for name in (".secrets.abc", ".secrets2.abc", "secrets.abc"):
        (tmp_path / name).write_bytes(b"half")
    remove_leftovers(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".secrets2.abc", "secrets", "secrets.abc"]
