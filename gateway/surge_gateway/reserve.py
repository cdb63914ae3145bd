"""A file that only takes up room: given back when the disk is full, so that sending can go on and make more.

Place in the flow: under `store`. Sending needs a little room (a sealed batch, the chain's state) before
receipts free any; a spool that filled the disk would otherwise wait for itself. Rule kept: while the room
is not back, nothing new is accepted, so what was freed is not eaten up by new reports.
"""

from collections.abc import Callable
from pathlib import Path

import structlog

from surge_gateway.files import Files, remove_if_there

log = structlog.get_logger()


class Reserve:
    """`held`: the room is there to be given back."""

    def __init__(self, files: Files, path: Path, length: int, random: Callable[[int], bytes]) -> None:
        self._files = files
        self._path = path
        self._length = length
        self._random = random
        self._is_short = False
        self.held = False

    def open(self) -> None:
        """Give back what the last run held: a start on a full disk needs room too, for the broker's files."""
        self._remove()

    def restore(self) -> bool:
        """Take the room (again); False where the disk doesn't have it."""
        if self.held:
            return True
        try:
            remove_if_there(self._files, self._path)
            file = self._files.create(self._path)
            try:
                file.write(self._random(self._length))  # random, for some file systems store no zeros
                file.sync()
            finally:
                file.close()
        except OSError as error:
            if not self._is_short:  # once, however often it is tried
                log.warning("reserve_not_available", path=str(self._path), error=error.strerror)
            self._is_short = True
            self._remove()
            return False
        self._is_short = False
        self.held = True
        return True

    def spend(self) -> bool:
        """Give the room back to the disk; False where it is spent already."""
        if not self.held:
            return False
        self.held = False
        log.warning("reserve_spent", path=str(self._path), len=self._length)
        self._remove()
        return True

    def _remove(self) -> None:
        try:
            remove_if_there(self._files, self._path)
        except OSError as error:
            log.warning("reserve_not_removed", path=str(self._path), error=str(error))
