"""What the outbox's records mean, and how they are replayed after a power cut.

Between ``surge_device.outbox_room``, which makes room, and ``surge_device.outbox_log``, the segment files.
An entry is known by its number, which it keeps from pending to sealed: the later record of a number
overrides the earlier one, so a reading has one life. Records:

    HEAD    version u8, next number u32, last sealed boot u32 and seq + 1 u32 (0: none), dropped u32,
            damaged u32
    PENDING body
    SEALED  boot u32, seq u32, envelope      the pending entry of that number, if there was one, is gone
    ACK     boot u32, (first u32, last u32)...      not synced by itself: a lost one costs a second sending
    DROP    dropped so far u32, number u32...       pending entries given up
"""

import struct

from surge_device.outbox_index import PENDING_ROW, SEALED_ROW, Index
from surge_device.outbox_limits import SEALED_MAX
from surge_device.outbox_log import SegmentLog
from surge_device.outbox_record import ACK, DROP, HEAD, HEADER_LEN, PENDING, SEALED

HEAD_VERSION = 1
_HEAD = ">BIIIII"
ENTRIES_MAX = 2048
LIVE_SHARE = (3, 4)  # of the segments' room; above it, copying forward costs more than it gains
SPARE_SEGMENTS = 2  # one to copy into, one for what is being written


class OutboxStore:
    def __init__(self, storage, bytes_max, segment_bytes, entries_max):
        self._segments_max = bytes_max // segment_bytes - SPARE_SEGMENTS
        if self._segments_max < 2 or not 2 <= entries_max <= ENTRIES_MAX:
            raise ValueError("an outbox is at least 4 segments, and 2 to %d entries" % ENTRIES_MAX)
        self._live_max = self._segments_max * segment_bytes * LIVE_SHARE[0] // LIVE_SHARE[1]
        self._pending = Index(PENDING_ROW, entries_max)
        self._sealed = Index(SEALED_ROW, SEALED_MAX)
        self._log = SegmentLog(storage, segment_bytes, self._head)
        self._next_number = 1
        self._last = (0, 0)  # boot, seq + 1 of the last sealed entry
        self._keep = None  # a pending entry whose sealing is under way: neither thinned nor given up
        self.bytes = 0  # of live records, headers included
        self.dropped = 0
        self._damaged = 0

    @property
    def damaged(self):
        """Records lost to damage on flash, over the life of this outbox."""
        return self._damaged + self._log.damaged

    def _head(self):
        boot, next_seq = self._last
        return struct.pack(_HEAD, HEAD_VERSION, self._next_number, boot, next_seq, self.dropped, self.damaged)

    def _visit(self, kind, number, body, segment, offset):
        """Takes one replayed record into the index."""
        if kind == HEAD:
            if body is not None and len(body) == struct.calcsize(_HEAD) and body[0] == HEAD_VERSION:
                _, next_number, boot, next_seq, dropped, damaged = struct.unpack(_HEAD, body)
                self._next_number = max(self._next_number, next_number)
                self._last = max(self._last, (boot, next_seq))
                self.dropped = max(self.dropped, dropped)
                self._damaged = max(self._damaged, damaged - self._log.damaged)
            return
        if kind == PENDING and body is not None and self._sealed.find(number) is None:
            self._forget(number)
            if self._pending.count == self._pending.capacity:  # the limit was lowered since
                self._forget(self._pending.number(0))
                self.dropped += 1
            self._place(PENDING, number, segment, offset, len(body), 0, 0)
        elif kind == SEALED and body is None:
            if self._sealed.find(number) is None:
                self._forget(number)  # it may have been sent: the reading mustn't get a second life
        elif kind == SEALED and len(body) > 8:
            self._forget(number)
            if self._sealed.count < SEALED_MAX:
                boot, seq = struct.unpack(">II", body[:8])
                self._last = max(self._last, (boot, seq + 1))
                self._place(SEALED, number, segment, offset, len(body), boot, seq)
        elif kind == ACK and body is not None:
            for place in range(4, len(body), 8):
                boot = struct.unpack(">I", body[:4])[0]
                self._forget_sealed(boot, *struct.unpack(">II", body[place : place + 8]))
        elif kind == DROP and body is not None:
            self.dropped = max(self.dropped, struct.unpack(">I", body[:4])[0])
            for place in range(4, len(body), 4):
                self._forget(struct.unpack(">I", body[place : place + 4])[0])
        self._next_number = max(self._next_number, number + 1)

    def _place(self, kind, number, segment, offset, length, boot, seq):
        if kind == PENDING:
            self._pending.put(number, segment, offset, length)
        else:
            self._sealed.put(number, segment, offset, length, boot, seq)
        self.bytes += HEADER_LEN + length

    def _forget(self, number):
        for index in (self._pending, self._sealed):
            place = index.find(number)
            if place is not None:
                self.bytes -= HEADER_LEN + index.row(place)[3]
                index.remove(place)

    def _forget_sealed(self, boot, first, last):
        count = 0
        for place in range(self._sealed.count - 1, -1, -1):
            number, _, _, _, row_boot, seq = self._sealed.row(place)
            if row_boot == boot and first <= seq <= last:
                self._forget(number)
                count += 1
        return count
