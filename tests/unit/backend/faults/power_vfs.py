"""SQLite's own file layer, over a disk that can lose power, run full, or fail.

Each disk is a folder of real files, which are what the process reads and where SQLite's locks and shared
memory are (so WAL works as in production, with several connections); beside it the `PowerDisk` notes what of
it is on the medium. Syncs don't reach the real disk: what survives is the model's affair.
"""

import itertools
from pathlib import Path
from typing import Any

import apsw
from power_disk import DiskFault, Node, PowerCut, PowerDisk, Write

_numbers = itertools.count()


def _refused(code: int) -> apsw.Error:
    """As SQLite's own Unix file layer answers: a result code, and the extended one."""
    error = apsw.exception_for(code)
    error.extendedresult = code
    return error


class PowerFile(apsw.VFSFile):
    """One open file. Temporary files, which have no name, pass by."""

    def __init__(self, disk: PowerDisk, filename: Any, flags: list[int]) -> None:
        super().__init__("", filename, flags)
        self._disk = disk
        path = filename if isinstance(filename, str) else filename.filename()
        self._name = Path(path).name

    @property
    def _node(self) -> Node:
        return self._disk.names[self._name]

    def _operation(self, kind: str, code: int) -> None:
        try:
            self._disk.operation(kind, self._name)
        except PowerCut:
            raise _refused(code) from None
        except DiskFault as fault:
            raise _refused(fault.args[0]) from None

    def xRead(self, amount: int, offset: int) -> bytes:
        try:
            self._disk.read(self._name)
        except PowerCut:
            raise _refused(apsw.SQLITE_IOERR_READ) from None
        except DiskFault as fault:
            raise _refused(fault.args[0]) from None
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:
        data = bytes(data)
        was_on = not self._disk.off
        try:
            self._operation("write", apsw.SQLITE_IOERR_WRITE)
        except apsw.Error:
            if was_on:  # some of it got there
                self._write(data[: self._disk.random.randrange(len(data) + 1)], offset)
            raise
        self._write(data, offset)

    def _write(self, data: bytes, offset: int) -> None:
        if data:
            super().xWrite(data, offset)
            self._node.unsynced.append(Write(offset, data))

    def xTruncate(self, newsize: int) -> None:
        self._operation("truncate", apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(newsize)
        self._node.unsynced.append(newsize)

    def xSync(self, flags: int) -> None:
        was_on = not self._disk.off
        try:
            self._operation("sync", apsw.SQLITE_IOERR_FSYNC)
        except apsw.Error:
            if was_on and not self._disk.off:
                self._disk.sync_failed(self._name)
            raise
        self._disk.sync(self._name)


class PowerVfs(apsw.VFS):
    """Registered under `name` until it is unregistered, when no connection may be open any more."""

    def __init__(self, disk: PowerDisk, folder: Path, files: dict[str, bytes]) -> None:
        self.name = f"power-{next(_numbers)}"
        self.disk = disk
        self.folder = folder
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        super().__init__(self.name, "")

    def xOpen(self, filename: Any, flags: list[int]) -> Any:
        if filename is None:
            return super().xOpen(filename, flags)
        name = Path(filename if isinstance(filename, str) else filename.filename()).name
        if name not in self.disk.names:
            if not flags[0] & apsw.SQLITE_OPEN_CREATE:
                raise _refused(apsw.SQLITE_CANTOPEN)
            self._operation("create", name, apsw.SQLITE_CANTOPEN)
            node = Node()
            self.disk.change_names(lambda names: names.__setitem__(name, node))
        elif self.disk.off:
            raise _refused(apsw.SQLITE_CANTOPEN)
        return PowerFile(self.disk, filename, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        name = Path(filename).name
        self._operation("remove", name, apsw.SQLITE_IOERR_DELETE)
        super().xDelete(filename, False)
        self.disk.change_names(lambda names: names.pop(name, None))
        if syncdir:
            self._operation("sync_folder", name, apsw.SQLITE_IOERR_DIR_FSYNC)
            self.disk.sync_names()

    def _operation(self, kind: str, name: str, code: int) -> None:
        try:
            self.disk.operation(kind, name)
        except PowerCut:
            raise _refused(code) from None
        except DiskFault as fault:
            raise _refused(fault.args[0]) from None
