"""Where each live entry of the outbox lies: rows of fixed size in one buffer made at boot, sorted by entry
number.

Pure, in RAM only; ``surge_device.outbox_log`` holds the bytes. A row is a tuple whose first fields are
(number, segment, offset, length). Never grows: ``insert`` into a full index is an error of the caller.
"""

import struct

PENDING_ROW = "<IIIH"  # number, segment, offset, body length
SEALED_ROW = "<IIIHII"  # the same, then boot, seq


class Index:
    def __init__(self, row, capacity):
        self._row = row
        self._size = struct.calcsize(row)
        self._view = memoryview(bytearray(self._size * capacity))
        self.capacity = capacity
        self.count = 0

    def row(self, place):
        return struct.unpack_from(self._row, self._view, place * self._size)

    def number(self, place):
        return struct.unpack_from("<I", self._view, place * self._size)[0]

    def find(self, number):
        """The place of ``number``, or None."""
        place = self._place(number)
        if place < self.count and self.number(place) == number:
            return place
        return None

    def put(self, *row):
        """Inserts a row at its place, or takes the place of the row with the same number."""
        place = self._place(row[0])
        size = self._size
        if place == self.count or self.number(place) != row[0]:
            if self.count == self.capacity:
                raise ValueError("index full")
            view = self._view
            view[(place + 1) * size : (self.count + 1) * size] = view[place * size : self.count * size]
            self.count += 1
        struct.pack_into(self._row, self._view, place * size, *row)

    def remove(self, place):
        size = self._size
        view = self._view
        view[place * size : (self.count - 1) * size] = view[(place + 1) * size : self.count * size]
        self.count -= 1

    def _place(self, number):
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self.number(middle) < number:
                low = middle + 1
            else:
                high = middle
        return low
