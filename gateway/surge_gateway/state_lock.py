"""One process per state_dir: two would give one seq two contents.

Place in the flow: taken by `process` before anything in the folder is read, held until the process ends,
however it ends.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from surge_host.errors import UserError
from surge_host.private_files import take_lock

LOCK_NAME = "lock"


@contextlib.contextmanager
def state_lock(state_dir: Path) -> Iterator[None]:
    """Hold the folder. Raises UserError where another process has it, or it can't be had."""
    try:
        descriptor = take_lock(state_dir / LOCK_NAME)
    except BlockingIOError:
        raise UserError(
            "another gateway runs with this state folder",
            f"[gateway] state_dir = {state_dir}",
            "stop it, or give this one a state_dir of its own",
        ) from None
    except OSError as error:
        raise UserError(
            f"the state folder can't be used: {error.strerror}",
            f"[gateway] state_dir = {state_dir}",
            "check that it is there and who owns it",
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)
