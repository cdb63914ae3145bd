"""A persisted 32-bit number that only grows: the boot counter, and the counter of the last executed
command.

Two small files take turns: a new value goes to the one that doesn't hold the current value, so that a power
cut at any byte leaves the current value intact. Each copy carries a CRC-32 over the cell's name and value.
Rules: ``write`` returns only when the value is on flash; a value never goes down; when both copies are
damaged or absent, ``read`` raises CellLost and never assumes 0. Does not decide what the number means.
Wear: one small file write for each new value.
"""

import binascii
import struct

from surge_device.errors import CellLost

VALUE_MAX = 0xFFFFFFFF
_MAGIC = b"SgC1"
_LENGTH = 12


class Cell:
    def __init__(self, storage, name):
        self.name = name
        self.in_doubt = False  # whether ``read`` found one copy only: the other may have been the newer one
        self._storage = storage
        self._slots = (name + ".0", name + ".1")
        self._current = None  # index of the slot that holds the value
        self._durable = False  # whether that slot is known to be on flash

    def exists(self):
        """Whether any copy was ever made; a damaged one counts."""
        return self._storage.exists(self._slots[0]) or self._storage.exists(self._slots[1])

    def create(self, value):
        """Makes both copies. Only for provisioning: elsewhere an absent cell is a lost one."""
        self._durable = True
        for self._current in (1, 0):
            self._put(value)

    def read(self):
        """The value. Raises CellLost."""
        best = None
        self.in_doubt = False
        for index, slot in enumerate(self._slots):
            value = self._decode(self._storage.read(slot, _LENGTH))
            if value is None:
                self.in_doubt = True
            elif best is None or value > best:
                best, self._current = value, index
        if best is None:
            raise CellLost("both copies of the counter '%s' are damaged or gone" % self.name)
        return best

    def write(self, value):
        """Persists a value above the current one; on an error the current one stays."""
        current = self.read()
        if not current < value <= VALUE_MAX:
            raise ValueError("counter '%s' can't go from %d to %d" % (self.name, current, value))
        self._put(value)

    def settle(self):
        """Makes the copy that ``read`` found durable: a process that died may have left it unsynced."""
        if not self._durable:
            with self._storage.open(self._slots[self._current], "ab") as file:
                self._storage.sync(file)
            self._storage.sync_names()
            self._durable = True

    def _put(self, value):
        self.settle()
        other = 1 - self._current
        body = struct.pack(">4sI", _MAGIC, value)
        crc = binascii.crc32(body, binascii.crc32(self.name.encode())) & 0xFFFFFFFF
        self._storage.write_durably(self._slots[other], body + struct.pack(">I", crc))
        self._current = other

    def _decode(self, data):
        if data is None or len(data) != _LENGTH:
            return None
        magic, value, crc = struct.unpack(">4sII", data)
        if (
            magic != _MAGIC
            or crc != binascii.crc32(data[:8], binascii.crc32(self.name.encode())) & 0xFFFFFFFF
        ):
            return None
        return value
