"""The folder in which workers share what they measure, and who clears it away.

Place in the flow: `app` makes it for a supervisor and its workers; `metrics` writes and reads there.

Rules kept: the supervisor clears it away at its end. Where it was killed, the last of its workers does: one
that still serves, or still starts, would fail at its next measurement. A lock on the folder says who is left,
and goes with its process, however that ends.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

MEMORY_FOLDER = "/dev/shm"  # noqa: S108 -- the folder in it is made for its owner alone


def measurements_folder(data_dir: Path) -> "tempfile.TemporaryDirectory[str]":
    """In memory where there is such a place: a mapped file on a disk that is full ends who writes to it."""
    in_memory = os.access(MEMORY_FOLDER, os.W_OK)
    return tempfile.TemporaryDirectory(
        prefix=f"surge-backend-{os.getpid()}-", dir=MEMORY_FOLDER if in_memory else data_dir
    )


def hold_folder(folder: Path) -> int:
    """Say that this process uses `folder`, until it ends or gives the descriptor to `leave_folder`. Raises
    OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def leave_folder(folder: Path, descriptor: int) -> bool:
    """Clear `folder` away if nobody else holds it; True if so."""
    try:
        # Linux gives the shared lock back before it asks for the exclusive one: of several that leave at
        # once, the last to ask gets it.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(descriptor)
