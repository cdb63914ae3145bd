"""A directory on the device and what durability means in it; the only file access of the outbox and the
counters.

Sits between those and the file system: VfsPosix on Linux, littlefs on ESP32 and Pico W, CPython's own in
tests, where a double that loses power takes its place. Keeps no state. ``sync`` returns only when the
file's bytes are on flash or disk: on MicroPython's unix port ``flush`` is fsync(2), on littlefs it commits
the file, on CPython os.fsync is added. ``sync_names`` does the same for created, renamed and removed names,
which POSIX keeps apart from the bytes; littlefs has them committed already.
"""

import os

ENOENT = 2
ENOSPC = 28  # not in MicroPython's errno module


class Storage:
    def __init__(self, path, sync=None):
        """``path`` is made if absent (one level). ``sync(file)`` is the board's, or None for the one
        described above."""
        self.path = path
        self._prefix = path if path.endswith("/") else path + "/"
        self._sync = sync
        try:
            os.mkdir(path)
        except OSError:
            os.stat(path)  # says so when the directory is neither there nor creatable

    def open(self, name, mode):
        return open(self._prefix + name, mode)

    def sync(self, file):
        if self._sync is not None:
            self._sync(file)
            return
        file.flush()
        if hasattr(os, "fsync"):
            os.fsync(file.fileno())

    def sync_names(self):
        if hasattr(os, "fsync"):  # CPython
            descriptor = os.open(self.path, os.O_RDONLY)  # type: ignore[attr-defined]
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        elif hasattr(os, "system"):  # the unix port opens a directory as a file, whose flush is fsync(2)
            directory = open(self.path, "rb")
            try:
                directory.flush()
            finally:
                directory.close()

    def names(self):
        return os.listdir(self.path)

    def remove(self, name):
        os.remove(self._prefix + name)

    def rename(self, old, new):
        os.rename(self._prefix + old, self._prefix + new)

    def exists(self, name):
        try:
            os.stat(self._prefix + name)
        except OSError as error:
            if error.args[0] != ENOENT:
                raise
            return False
        return True

    def read(self, name, length_max):
        """The whole file, or None when it doesn't exist. A longer one gives ``length_max + 1`` bytes."""
        if not self.exists(name):
            return None
        with self.open(name, "rb") as file:
            return file.read(length_max + 1)

    def write_durably(self, name, data):
        """Writes and syncs a whole file in place; not atomic: the caller keeps another copy."""
        with self.open(name, "wb") as file:
            if file.write(data) != len(data):
                raise OSError(ENOSPC)
            self.sync(file)
        self.sync_names()
