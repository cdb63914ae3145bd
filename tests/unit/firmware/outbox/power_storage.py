"""A Storage that loses power, fills up and refuses to sync, as hostile as POSIX allows.

Bytes are durable after ``sync`` of their file, names after ``sync_names``. At a power cut each file keeps
what was durable and any prefix of what was written since (sometimes with a garbled end); of the names
changed since, any of the changes hold. ``steps`` counts the operations, and ``cut_at`` says before or in
the middle of which one the power goes. A process that merely dies loses nothing
(``restart(power_lost=False)``).
"""

import random


class PowerCut(BaseException):
    """The power is gone; nothing below catches this."""


class _Inode:
    def __init__(self):
        self.durable = b""
        self.now = bytearray()


class _File:
    def __init__(self, storage, inode, mode):
        self._storage, self._inode, self._mode = storage, inode, mode
        self._offset = len(inode.now) if "a" in mode else 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._storage = None

    def seek(self, offset, whence=0):
        self._offset = len(self._inode.now) if whence == 2 else offset
        return self._offset

    def read(self, length=-1):
        end = None if length < 0 else self._offset + length
        data = bytes(self._inode.now[self._offset : end])
        self._offset += len(data)
        return data

    def readinto(self, buffer):
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data):
        storage = self._storage
        assert storage is not None, "write after close"
        assert "r" not in self._mode
        data = bytes(data)
        cut = storage.step()
        taken = data[: storage.random.randrange(len(data) + 1)] if cut else data
        room = max(0, storage.capacity - storage.used())
        full = len(taken) > room
        self._inode.now += taken[:room]
        if cut:
            raise PowerCut
        if full:
            raise OSError(28, "no space left on device")
        return len(data)


class PowerStorage:
    def __init__(self, seed=0, capacity=1 << 30):
        self.random = random.Random(seed)
        self.capacity = capacity
        self.steps = 0
        self.cut_at = None
        self.fail_sync_at = None
        self.files = {}  # name -> inode, as the running system sees it
        self._durable_names = {}
        self._changes = []  # not yet durable: each a dict of name -> inode, or None where it was removed

    def step(self):
        self.steps += 1
        return self.cut_at is not None and self.steps >= self.cut_at

    def used(self):
        return sum(len(inode.now) for inode in self.files.values())

    def names(self):
        return list(self.files)

    def exists(self, name):
        return name in self.files

    def open(self, name, mode):
        if "r" in mode or ("a" in mode and name in self.files):
            if name not in self.files:
                raise OSError(2, "no such file")
            return _File(self, self.files[name], mode)
        if self.step():
            raise PowerCut
        if self.used() >= self.capacity:
            raise OSError(28, "no space left on device")
        inode = self.files.get(name)
        if inode is None:
            inode = self.files[name] = _Inode()
            self._changes.append({name: inode})
        inode.now = bytearray()
        return _File(self, inode, mode)

    def read(self, name, length_max):
        return bytes(self.files[name].now[: length_max + 1]) if name in self.files else None

    def write_durably(self, name, data):
        with self.open(name, "wb") as file:
            file.write(data)
            self.sync(file)
        self.sync_names()

    def sync(self, file):
        if self.step():
            raise PowerCut
        if self.fail_sync_at is not None and self.steps >= self.fail_sync_at:
            self.fail_sync_at = None
            raise OSError(5, "input/output error")
        file._inode.durable = bytes(file._inode.now)

    def sync_names(self):
        if self.step():
            raise PowerCut
        self._durable_names, self._changes = dict(self.files), []

    def remove(self, name):
        if self.step():
            raise PowerCut
        if name not in self.files:
            raise OSError(2, "no such file")
        del self.files[name]
        self._changes.append({name: None})

    def rename(self, old, new):
        if self.step():
            raise PowerCut
        inode = self.files.pop(old)
        self.files[new] = inode
        self._changes.append({new: inode, old: None})

    def restart(self, power_lost=True):
        """The same flash after a power cut, or after the death of the process only."""
        after = PowerStorage(self.random.randrange(1 << 30), self.capacity)
        if not power_lost:
            after.files, after._durable_names, after._changes = self.files, self._durable_names, self._changes
            return after
        names = dict(self._durable_names)
        for change in self._changes:
            if self.random.random() < 0.5:
                names.update(change)
        names = {name: inode for name, inode in names.items() if inode is not None}
        for name, inode in names.items():
            kept = _Inode()
            kept.now = bytearray(self._after_cut(inode))
            kept.durable = bytes(kept.now)
            after.files[name] = kept
        after._durable_names = dict(after.files)
        return after

    def _after_cut(self, inode):
        durable, now = inode.durable, bytes(inode.now)
        if now[: len(durable)] != durable:  # truncated and rewritten: the old, or a beginning of the new
            return self.random.choice([durable, now[: self.random.randrange(len(now) + 1)]])
        unsynced = now[len(durable) :]
        kept = bytearray(unsynced[: self.random.randrange(len(unsynced) + 1)])
        if (
            kept and self.random.random() < 0.3
        ):  # a block that the disk hadn't written though the size had grown
            start = self.random.randrange(len(kept))
            kept[start:] = bytes(len(kept) - start)
        return durable + bytes(kept)
