"""A disk in memory that can lose power at any operation, run full, and fail an fsync.

What survives a power cut is what a journalling file system promises and no more: bytes that were synced; of
the rest any prefix, perhaps followed by zeros; names that a folder sync covered; of later renames,
creations and removals any prefix in their order. After a failed fsync the bytes it should have covered are
gone for good, though they can still be read until the restart.
"""

import errno
import random
from collections.abc import Callable
from pathlib import Path


class PowerCut(BaseException):
    """The machine is off. Not an Exception: no handler of the code under test may live through it."""


class Node:
    def __init__(self) -> None:
        self.data = b""
        self.durable = b""


class SimulatedFile:
    def __init__(self, disk: "SimulatedFiles", path: Path, node: Node) -> None:
        self._disk = disk
        self._path = path
        self._node = node
        self._open = True

    def write(self, data: bytes) -> None:
        assert self._open
        data = bytes(data)
        room = self._disk.room()
        if len(data) > room:
            self._disk.operation("write", self._path)
            self._node.data += data[:room]
            raise OSError(errno.ENOSPC, "simulated disk full")
        try:
            self._disk.operation("write", self._path)
        except (PowerCut, OSError):
            self._node.data += data[: self._disk.random.randrange(len(data) + 1)]
            raise
        self._node.data += data

    def sync(self) -> None:
        assert self._open
        try:
            self._disk.operation("sync", self._path)
        except OSError:
            # The kernel has dropped the dirty pages: what they held will never reach the medium.
            lost = len(self._node.data) - len(self._node.durable)
            if lost > 0:
                self._node.durable += bytes(lost)
            raise
        if len(self._node.data) >= len(self._node.durable):
            self._node.durable += self._node.data[len(self._node.durable) :]
        else:
            self._node.durable = self._node.durable[: len(self._node.data)]

    def truncate(self, length: int) -> None:
        assert self._open
        self._disk.operation("truncate", self._path)
        self._node.data = self._node.data[:length]

    def close(self) -> None:
        self._open = False


class SimulatedFiles:
    def __init__(self, seed: int = 0, capacity: int = 1 << 40) -> None:
        self.random = random.Random(seed)
        self.capacity = capacity
        self.cut_at: int | None = None  # this operation is the last, half done
        self.operations = 0
        self.fail: Callable[[str, Path], int | None] = lambda _operation, _path: None
        self._off = False
        self._names: dict[Path, Node] = {}
        self._durable_names: dict[Path, Node] = {}
        self._unsynced: dict[Path, list[Callable[[dict[Path, Node]], object]]] = {}

    def room(self) -> int:
        return max(0, self.capacity - sum(len(node.data) for node in self._names.values()))

    def operation(self, kind: str, path: Path) -> None:
        """Every operation that changes something passes here, before it takes effect."""
        if self._off:
            raise PowerCut
        self.operations += 1
        if self.operations == self.cut_at:
            self._off = True
            raise PowerCut
        number = self.fail(kind, path)
        if number is not None:
            raise OSError(number, f"simulated {errno.errorcode[number]}")

    def _change(self, folder: Path, change: Callable[[dict[Path, Node]], object]) -> None:
        change(self._names)
        self._unsynced.setdefault(folder, []).append(change)

    def make_folder(self, folder: Path) -> None:
        self._alive()

    def _alive(self) -> None:
        if self._off:
            raise PowerCut

    def names(self, folder: Path) -> list[str]:
        self._alive()
        return sorted(path.name for path in self._names if path.parent == folder)

    def size(self, path: Path) -> int:
        return len(self.read(path))

    def read(self, path: Path) -> bytes:
        self._alive()
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return self._names[path].data

    def read_part(self, path: Path, offset: int, length: int) -> bytes:
        return self.read(path)[offset : offset + length]

    def create(self, path: Path) -> SimulatedFile:
        self.operation("create", path)
        if path in self._names:
            raise FileExistsError(errno.EEXIST, "file exists", str(path))
        node = Node()
        self._change(path.parent, lambda names: names.__setitem__(path, node))
        return SimulatedFile(self, path, node)

    def open_append(self, path: Path) -> SimulatedFile:
        self._alive()
        return SimulatedFile(self, path, self._names[path])

    def rename(self, source: Path, target: Path) -> None:
        self._alive()
        if source not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(source))
        self.operation("rename", source)
        node = self._names[source]

        def change(names: dict[Path, Node]) -> None:
            names.pop(source, None)
            names[target] = node

        self._change(source.parent, change)

    def remove(self, path: Path) -> None:
        self._alive()
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        self.operation("remove", path)
        self._change(path.parent, lambda names: names.pop(path, None))

    def sync_folder(self, folder: Path) -> None:
        self.operation("sync_folder", folder)
        for change in self._unsynced.pop(folder, []):
            change(self._durable_names)

    def copy(self) -> "SimulatedFiles":
        """A disk with the same files, all of them synced."""
        twin = SimulatedFiles(self.random.randrange(1 << 30), self.capacity)
        for path, node in self._names.items():
            kept = Node()
            kept.data = kept.durable = node.data
            twin._names[path] = twin._durable_names[path] = kept
        return twin

    def put(self, path: Path, data: bytes) -> None:
        """Damage from outside: replace a file's content, synced."""
        self._names[path].data = self._names[path].durable = data

    def process_died(self) -> None:
        """The machine runs on: all that was written can be read, and no more is durable than before."""
        self._off = False
        self.cut_at = None

    def restart(self) -> "SimulatedFiles":
        """The disk as the next start finds it."""
        survivor = SimulatedFiles(self.random.randrange(1 << 30), self.capacity)
        names = dict(self._durable_names)
        for changes in self._unsynced.values():
            for change in changes[: self.random.randrange(len(changes) + 1)]:
                change(names)
        for path, node in names.items():
            kept = Node()
            kept.data = kept.durable = self._surviving(node)
            survivor._names[path] = survivor._durable_names[path] = kept
        return survivor

    def _surviving(self, node: Node) -> bytes:
        if len(node.data) < len(node.durable):  # cut back, not synced, or lost by a failed fsync
            return self.random.choice([node.durable, node.durable[: len(node.data)]])
        unsynced = node.data[len(node.durable) :]
        kept = unsynced[: self.random.randrange(len(unsynced) + 1)]
        zeros = (
            bytes(self.random.randrange(len(unsynced) - len(kept) + 1)) if self.random.random() < 0.3 else b""
        )
        return node.durable + kept + zeros
