"""What a disk keeps of SQLite's files when the power goes: the model alone, no SQLite in it.

It promises what a journalling file system on a drive with 512-byte sectors promises and no more. Of what was
not synced any part may be there: all, none, a prefix whose last write is torn, or any choice of sectors, so
that later writes are there and earlier ones are not; where nothing was written within a file's length, zeros.
Names that a folder sync covered are there; of later creations and removals any prefix. After a failed fsync
the bytes it should have covered may be gone for good, though they can be read until the restart.

The process's own view, what it reads back before the power goes, is the real file; see `power_vfs`.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

SECTOR_LEN = 512


class PowerCut(Exception):
    """The machine is off: nothing that is asked of the disk happens any more."""


class DiskFault(Exception):
    """One operation fails; args[0] is SQLite's result code for it."""


@dataclass(frozen=True)
class Write:
    """Bytes that a file got at `offset`."""

    offset: int
    data: bytes


Change = Write | int  # an int: cut to, or stretched to, that length


@dataclass
class Node:
    """A file's bytes on the medium, and what the system has not brought there yet."""

    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[Change] = field(default_factory=list)
    synced_once: bool = False

    def apply(self, changes: list[Change]) -> None:
        """Bring `changes` to the medium, in order."""
        for change in changes:
            if isinstance(change, int):
                del self.durable[change:]
                self.durable.extend(bytes(change - len(self.durable)))
            else:
                self.durable.extend(bytes(max(0, change.offset - len(self.durable))))
                self.durable[change.offset : change.offset + len(change.data)] = change.data


def surviving(unsynced: list[Change], source: random.Random) -> list[Change]:
    """Of changes that were not synced, those that reached the medium."""
    choice = source.random()
    if choice < 0.15:
        return list(unsynced)
    if choice < 0.3:
        return []
    if choice < 0.6:
        return _torn_prefix(unsynced, source)
    chance = source.random()
    kept: list[Change] = []
    for change in unsynced:
        parts = _sectors(change) if isinstance(change, Write) else [change]
        kept += [part for part in parts if source.random() < chance]
    return kept


def _torn_prefix(unsynced: list[Change], source: random.Random) -> list[Change]:
    if not unsynced:
        return []
    count = source.randrange(len(unsynced))
    last = unsynced[count]
    torn = _sectors(last) if isinstance(last, Write) else []
    return [*unsynced[:count], *torn[: source.randrange(len(torn) + 1)]]


def _sectors(write: Write) -> list[Change]:
    """The write, cut where the medium's sectors end."""
    parts: list[Change] = []
    at = 0
    while at < len(write.data):
        end = at + SECTOR_LEN - (write.offset + at) % SECTOR_LEN
        parts.append(Write(write.offset + at, write.data[at:end]))
        at = end
    return parts


Names = dict[str, Node]


class PowerDisk:
    """The files of one folder. `cut_at`: the operation of that number is the last, half done."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.cut_at: int | None = None
        self.operations = 0
        self.reads = 0
        self.history: list[str] = []  # what each operation was
        self.fail: Callable[[str, str], int | None] = lambda _kind, _name: None
        self.off = False
        self.names: Names = {}
        self._durable_names: Names = {}
        self._unsynced_names: list[Callable[[Names], object]] = []

    def operation(self, kind: str, name: str) -> None:
        """Everything that changes something passes here before it takes effect. PowerCut, DiskFault."""
        self.alive()
        self.operations += 1
        self.history.append(f"{kind} {name.partition('-')[2] or 'database'}")
        if self.operations == self.cut_at:
            self.off = True
            raise PowerCut
        code = self.fail(kind, name)
        if code is not None:
            raise DiskFault(code)

    def read(self, name: str) -> None:
        """Reading passes here. PowerCut, DiskFault."""
        self.alive()
        self.reads += 1
        code = self.fail("read", name)
        if code is not None:
            raise DiskFault(code)

    def alive(self) -> None:
        """Raises PowerCut once the machine is off."""
        if self.off:
            raise PowerCut

    def change_names(self, change: Callable[[Names], object]) -> None:
        """Make or take away a name; not on the medium before `sync_names`."""
        change(self.names)
        self._unsynced_names.append(change)

    def sync_names(self) -> None:
        """Bring the folder to the medium."""
        for change in self._unsynced_names:
            change(self._durable_names)
        self._unsynced_names = []

    def sync(self, name: str) -> None:
        """Bring a file's bytes to the medium; the first sync of a new one also its name: SQLite does that."""
        node = self.names[name]
        node.apply(node.unsynced)
        node.unsynced = []
        if not node.synced_once:
            node.synced_once = True
            if "-" in name:  # journals and WALs only
                self.sync_names()

    def sync_failed(self, name: str) -> None:
        """The system has dropped what it should have synced; some of it may have arrived."""
        node = self.names[name]
        node.apply(surviving(node.unsynced, self.random))
        node.unsynced = []

    def process_died(self) -> None:
        """The machine runs on: all that was written can be read, and no more is on the medium than before."""
        self.off = False
        self.cut_at = None

    def restart(self) -> "tuple[PowerDisk, dict[str, bytes]]":
        """The disk as the next start finds it, and the content of its files."""
        survivor = PowerDisk(self.random.randrange(1 << 30))
        names = dict(self._durable_names)
        for change in self._unsynced_names[: self.random.randrange(len(self._unsynced_names) + 1)]:
            change(names)
        for name, node in names.items():
            kept = Node(bytearray(node.durable), synced_once=True)
            kept.apply(surviving(node.unsynced, self.random))
            survivor.names[name] = survivor._durable_names[name] = kept
        return survivor, {name: bytes(node.durable) for name, node in survivor.names.items()}

    def copy(self, seed: int) -> "tuple[PowerDisk, dict[str, bytes]]":
        """A disk with the same files, all of them synced: for many runs from one beginning."""
        twin = PowerDisk(seed)
        for name, node in self.names.items():
            whole = Node(bytearray(node.durable), synced_once=True)
            whole.apply(node.unsynced)
            twin.names[name] = twin._durable_names[name] = whole
        return twin, {name: bytes(node.durable) for name, node in twin.names.items()}
