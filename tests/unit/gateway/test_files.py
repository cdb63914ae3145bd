"""The two ways of writing a whole file, under power cuts, and the real file system behind the port."""

import errno
import stat
from pathlib import Path

import pytest
from gateway_files import PowerCut, SimulatedFiles

from surge_gateway.checked_file import decode_checked, encode_checked
from surge_gateway.files import RealFiles, write_atomically, write_new
from surge_wire.errors import DecodeError

PATH = Path("folder/file")
OLD, NEW = b"the old content", b"what is new, and longer"


@pytest.mark.parametrize("seed", range(50))
def test_a_power_cut_leaves_the_old_or_the_new_content_whole(seed: int) -> None:
    for cut_at in range(1, 10):
        disk = SimulatedFiles(seed)
        write_new(disk, PATH, OLD)
        disk.cut_at = disk.operations + cut_at
        try:
            write_atomically(disk, PATH, NEW)
            finished = True
        except PowerCut:
            finished = False
        survivor = disk.restart()
        assert survivor.read(PATH) in ((NEW,) if finished else (OLD, NEW))
        write_atomically(survivor, PATH, NEW)  # what the cut left behind is not in the way
        assert survivor.restart().read(PATH) == NEW


def test_write_new_overwrites_nothing() -> None:
    disk = SimulatedFiles()
    write_new(disk, PATH, OLD)
    with pytest.raises(FileExistsError):
        write_new(disk, PATH, NEW)
    assert disk.read(PATH) == OLD


def test_the_real_file_system_keeps_secrets_from_others(tmp_path: Path) -> None:
    files, folder = RealFiles(), tmp_path / "state"
    files.make_folder(folder)
    write_new(files, folder / "key", b"secret")
    write_atomically(files, folder / "key", b"other")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
    assert files.read_part(folder / "key", 2, 100) == b"her"
    assert files.names(folder) == ["key"]


def test_every_flipped_byte_of_a_checked_file_is_noticed() -> None:
    data = encode_checked({1: 2, 3: b"x"})
    assert decode_checked(data) == {1: 2, 3: b"x"}
    for at in range(len(data)):
        with pytest.raises(DecodeError):
            decode_checked(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(DecodeError):
            decode_checked(data[:at])


@pytest.mark.threat(15)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("operation", ["create", "write", "sync"])
def test_a_write_that_fails_leaves_no_half_file(operation: str, number: int) -> None:
    disk = SimulatedFiles()
    write_new(disk, Path("folder/kept"), b"old")
    disk.fail = lambda kind, _path: number if kind == operation else None
    for write in (write_new, write_atomically):
        with pytest.raises(OSError, match="simulated"):
            write(disk, Path("folder/new"), b"new")
    with pytest.raises(OSError, match="simulated"):
        write_atomically(disk, Path("folder/kept"), b"new")
    assert disk.names(Path("folder")) == ["kept"]
    assert disk.read(Path("folder/kept")) == b"old"
