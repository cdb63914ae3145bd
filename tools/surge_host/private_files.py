"""Files that only their owner may read, whole or absent, and locks on folders.

Place in the flow: below gateway, backend and command, which say in their own words what is wrong. Rules
kept: mode 0600 from the first byte on; what was written is on the medium when the call returns; a lock goes
with the process that holds it, however it ends.
"""

import fcntl
import os
import tempfile
from pathlib import Path

OWNER_ONLY = 0o600


def replace_file(path: Path, content: bytes) -> None:
    """Replace `path` in one step: a reader, or a crash, finds the old content or the new. Raises OSError.

    A crash may leave a file beside it, which `remove_leftovers` knows."""
    descriptor, temporary = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)  # mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what a crash left of `replace_file(path, ...)`. Only for who has a lock on the folder: nobody
    else may be replacing it now. Raises OSError."""
    for name in os.listdir(path.parent):
        if name.startswith(_prefix(path)):
            os.unlink(path.parent / name)


def _prefix(path: Path) -> str:
    return f".{path.name}."


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(path: Path) -> int:
    """The descriptor of an exclusive lock on `path`, made if need be; closing it gives the lock back.

    Raises BlockingIOError where another process has it, another OSError where the file can't be had.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
