"""Makes room in the outbox for one more record, and stores it.

Between ``surge_device.outbox`` (the rules that the app sees) and ``surge_device.outbox_store`` (the
records). In order: dead segments at the old end are deleted; the oldest segment's live entries are copied
to the new end; when more than ``LIVE_SHARE`` of the room is live, or copying has gained nothing all around,
pending entries are thinned; when the file system itself is full, the oldest segment is given up if nothing
sealed lies in it. Whatever is given up is counted.
"""

import struct

from surge_device.errors import OutboxFull
from surge_device.outbox_record import DROP, HEADER_LEN, PENDING, SEALED, sum_len
from surge_device.outbox_store import ENTRIES_MAX, OutboxStore
from surge_device.storage import ENOSPC

COPIES_AT_ONCE = 16  # entries copied forward for one sync; bounds the RAM that it takes


class OutboxRoom(OutboxStore):
    def _store(self, kind, number, *parts):
        """Appends and syncs a record, making room first; returns (segment, offset). Raises OutboxFull.

        An error of the file system is met once by a fresh segment, a full one also by giving up the
        oldest."""
        tried = False
        while True:
            try:
                self._make_room(sum_len(parts))
                place = self._log.append(kind, number, *parts)
                self._log.sync()
                return place
            except OSError as error:
                if tried or (error.args[0] == ENOSPC and not self._give_up_oldest()):
                    raise OutboxFull("the file system refused to store a report (error %s)" % error.args[0])
                tried = True

    def _make_room(self, length):
        if self._log.fits(length):
            return
        self._free_dead()
        copies = 0
        while (
            len(self._log.segments) >= self._segments_max or self.bytes + HEADER_LEN + length > self._live_max
        ):
            if self.bytes + HEADER_LEN + length > self._live_max or copies == self._segments_max:
                if not self._thin():
                    raise OutboxFull("outbox full: %d bytes are in flight" % self.bytes)
                copies = 0
            else:
                self._copy_oldest_forward()
                copies += 1
            self._free_dead()

    def _thin(self):
        """Gives up every second of the older half of the pending entries, at least one; returns how many."""
        numbers = []
        spared = True  # the first candidate goes, the next is spared, and so on
        for place in range(self._pending.count):
            number = self._pending.number(place)
            if number == self._keep:
                continue
            if numbers and place > self._pending.count // 2:
                break
            spared = not spared
            if not spared:
                numbers.append(number)
        if numbers:
            body = struct.pack(">I", self.dropped + len(numbers))
            self._log.append(DROP, 0, body + b"".join([struct.pack(">I", number) for number in numbers]))
            self._give_up(numbers)
        return len(numbers)

    def _give_up(self, numbers):
        self.dropped += len(numbers)
        for number in numbers:
            self._forget(number)

    def _lying_in(self, index, segment, count_max):
        """Up to ``count_max`` numbers of entries in ``segment``, oldest first."""
        numbers = []
        for place in range(index.count):
            if index.row(place)[1] == segment:
                numbers.append(index.number(place))
                if len(numbers) == count_max:
                    break
        return numbers

    def _free_dead(self):
        """Deletes segments at the old end that hold nothing alive."""
        while self._log.segments and self._log.segments[0] < self._log.headed:
            oldest = self._log.segments[0]
            if self._lying_in(self._sealed, oldest, 1) or self._lying_in(self._pending, oldest, 1):
                return
            self._log.sync()  # what made it dead (and was counted) is durable before it goes
            self._log.free_oldest()

    def _copy_oldest_forward(self):
        """Copies the oldest segment's live entries to the new end; the old ones die once the copies are
        durable."""
        for kind, index in ((PENDING, self._pending), (SEALED, self._sealed)):
            while self._copy_some(kind, index, self._log.segments[0]):
                pass

    def _copy_some(self, kind, index, oldest):
        numbers = self._lying_in(index, oldest, COPIES_AT_ONCE)
        places = []
        for number in numbers:
            body = self._log.read(oldest, index.row(index.find(number))[2], number)
            if body is None:
                self._log.damaged += 1
                self._forget(number)
            places.append(self._log.append(kind, number, body) if body is not None else None)
        self._log.sync()
        for copied in range(len(numbers)):
            if places[copied] is not None:
                row = index.row(index.find(numbers[copied]))
                index.put(numbers[copied], places[copied][0], places[copied][1], *row[3:])
        return len(numbers)

    def _give_up_oldest(self):
        """When the file system is full: deletes the oldest segment with the pending entries in it, provided
        that nothing sealed is lost with it. Returns whether it did."""
        if not self._log.segments or self._log.segments[0] >= self._log.headed:
            return False
        numbers = self._lying_in(self._pending, self._log.segments[0], ENTRIES_MAX)
        if self._keep in numbers or self._lying_in(self._sealed, self._log.segments[0], 1):
            return False
        try:
            self._log.free_oldest()
            self._give_up(numbers)
            self._log.append(DROP, 0, struct.pack(">I", self.dropped))
        except OSError:
            return False
        return True
