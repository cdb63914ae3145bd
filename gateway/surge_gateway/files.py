"""The file port: the few operations that durability rests on, so that a test can cut power at any of them.

Place in the flow: under spool, batch files, chain state and caches. Does not buffer, retry or interpret.
Rules kept: `write` writes all or raises OSError; after `sync` the file's bytes are on the medium; after
`sync_folder` so are its names; nothing else is promised.
"""

import os
from pathlib import Path
from typing import Protocol

TEMPORARY_SUFFIX = ".tmp"  # left behind by a crash in the middle of `write_atomically`; never read
SECRET_MODE = 0o600
FOLDER_MODE = 0o700


class AppendFile(Protocol):
    """An open file that only grows, or is cut back."""

    def write(self, data: bytes) -> None: ...

    def sync(self) -> None: ...

    def truncate(self, length: int) -> None: ...

    def close(self) -> None: ...


class Files(Protocol):
    """Folders and files. All raise OSError."""

    def make_folder(self, folder: Path) -> None: ...

    def names(self, folder: Path) -> list[str]: ...

    def size(self, path: Path) -> int: ...

    def read(self, path: Path) -> bytes: ...

    def read_part(self, path: Path, offset: int, length: int) -> bytes: ...

    def create(self, path: Path) -> AppendFile: ...

    def open_append(self, path: Path) -> AppendFile: ...

    def rename(self, source: Path, target: Path) -> None: ...

    def remove(self, path: Path) -> None: ...

    def sync_folder(self, folder: Path) -> None: ...


class RealAppendFile:
    """A descriptor opened for appending."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def truncate(self, length: int) -> None:
        os.ftruncate(self._descriptor, length)

    def close(self) -> None:
        os.close(self._descriptor)


class RealFiles:
    """The machine's file system. Files are made with mode 0600, folders with 0700."""

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def names(self, folder: Path) -> list[str]:
        return sorted(os.listdir(folder))

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def read_part(self, path: Path, offset: int, length: int) -> bytes:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    def create(self, path: Path) -> AppendFile:
        return RealAppendFile(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, SECRET_MODE))

    def open_append(self, path: Path) -> AppendFile:
        return RealAppendFile(os.open(path, os.O_WRONLY | os.O_APPEND))

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        os.remove(path)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_if_there(files: Files, path: Path) -> None:
    """Remove `path`; that it isn't there is fine."""
    try:
        files.remove(path)
    except FileNotFoundError:
        pass


def write_new(files: Files, path: Path, data: bytes) -> None:
    """Make `path` with `data`, on the medium when this returns. FileExistsError if it is there already; after
    another OSError it isn't there, as far as the disk lets us.
    """
    file = files.create(path)
    try:
        file.write(data)
        file.sync()
    except OSError:
        _give_back(files, path)
        raise
    finally:
        file.close()
    files.sync_folder(path.parent)


def write_atomically(files: Files, path: Path, data: bytes) -> None:
    """Replace `path` by `data`: after a crash it is the old or the new content, whole. Raises OSError."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    remove_if_there(files, temporary)
    file = files.create(temporary)
    try:
        file.write(data)
        file.sync()
    except OSError:
        _give_back(files, temporary)
        raise
    finally:
        file.close()
    files.rename(temporary, path)
    files.sync_folder(path.parent)


def _give_back(files: Files, half: Path) -> None:
    """Half a file would be taken for a whole one, and on a full disk hold room that others could use."""
    try:
        remove_if_there(files, half)
    except OSError:
        pass  # what was asked for has failed already, and says so
