"""A disk of a few MiB that really runs full, for processes that know nothing of it.

A tmpfs in a mount namespace of its own, which needs no rights but those to make namespaces; others reach it
through /proc/PID/root of the process that holds it, so nothing is mounted where anyone else could see it, and
it is gone with that process. Where namespaces are forbidden (some containers), the kernel refuses growth in
another way: RLIMIT_FSIZE, and no file of that process grows any more. That is another error number (EFBIG),
and it ends with the process; the rest of a test is the same.
"""

import contextlib
import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

HOLDER = "mount -t tmpfs -o mode=0700,size={size} tmpfs {place} && echo mounted && read -r end"
BALLAST = "ballast"


class SmallDisk:
    """`folder` is on it, for anybody; `place` is, for a command that begins with `inside`. SQLite needs that:
    it follows links by itself, and would be led out.
    """

    def __init__(self, folder: Path, place: Path, inside: list[str]) -> None:
        self.folder = folder
        self.place = place
        self.inside = inside
        self.is_mounted = bool(inside)
        self._limited: int | None = None

    def fill(self, pid: int) -> None:
        """To the last byte. `pid` is the process that is meant, where only processes can be bounded."""
        if not self.is_mounted:
            self._limited = pid
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        descriptor = os.open(self.folder / BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        length = 1 << 20
        try:
            while length:
                try:
                    os.write(descriptor, bytes(length))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    length //= 2
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """As it was before `fill`."""
        if self.is_mounted:
            (self.folder / BALLAST).unlink(missing_ok=True)
        elif self._limited is not None:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(self._limited, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


@contextlib.contextmanager
def small_disk(place: Path, size: int, mount: bool = True) -> Iterator[SmallDisk]:
    """An empty disk of `size` bytes; without `mount`, the limit on a process stands for it."""
    place.mkdir(mode=0o700)
    command = HOLDER.format(size=size, place=place)
    ways = [
        (["-m"], ["--mount"]),  # as root
        (["-U", "-r", "-m"], ["--mount", "--user", "--preserve-credentials"]),  # as anybody
    ]
    for namespaces, enter in ways if mount and shutil.which("unshare") else []:
        holder = subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert holder.stdout is not None
        try:
            if holder.stdout.readline() == b"mounted\n":
                inside = ["nsenter", "--target", str(holder.pid), *enter]
                yield SmallDisk(Path(f"/proc/{holder.pid}/root{place}"), place, inside)
                return
        finally:
            holder.communicate()  # the end of its input ends it
    yield SmallDisk(place, place, [])
