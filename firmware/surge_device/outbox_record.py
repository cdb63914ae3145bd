"""The outbox's record on flash, written, checked and found again after damage. One buffer, made at boot.

    magic u16 | type u8 | length u16 | number u32 | crc32 of type..number and body | body     (big-endian)

Place: below ``surge_device.outbox_log``, which knows the files. Keeps no state but the buffer: whatever a
method returns as a view lasts until the next call.
"""

import binascii
import struct

HEAD, PENDING, SEALED, ACK, DROP = 1, 2, 3, 4, 5

_MAGIC = 0x5367
_HEADER = ">HBHII"
HEADER_LEN = 13
BODY_MAX = 4096 + 64  # a report's envelope at its limit, with what the outbox notes beside it
_SCAN_LEN = 256


class RecordBuffer:
    def __init__(self):
        self._view = memoryview(bytearray(HEADER_LEN + BODY_MAX))

    def header(self, kind, number, parts):
        """The header of a record whose body is ``parts`` one after the other, as a view."""
        view = self._view
        length = sum_len(parts)
        if length > BODY_MAX:
            raise ValueError("record of %d bytes, at most %d" % (length, BODY_MAX))
        struct.pack_into(_HEADER, view, 0, _MAGIC, kind, length, number, 0)
        crc = binascii.crc32(view[2:9])
        for part in parts:
            crc = binascii.crc32(part, crc)
        struct.pack_into(">I", view, 9, crc & 0xFFFFFFFF)
        return view[:HEADER_LEN]

    def read(self, file, offset):
        """(kind, number, body view) of the record at ``offset``; the body is None when it isn't sound
        there, and all three are None when there is not even a believable header."""
        file.seek(offset)
        view = self._view
        if file.readinto(view[:HEADER_LEN]) != HEADER_LEN:
            return None, None, None
        magic, kind, length, number, crc = struct.unpack_from(_HEADER, view, 0)
        if magic != _MAGIC or not HEAD <= kind <= DROP or length > BODY_MAX:
            return None, None, None
        body = view[HEADER_LEN : HEADER_LEN + length]
        if file.readinto(body) != length:
            return None, None, None
        if binascii.crc32(body, binascii.crc32(view[2:9])) & 0xFFFFFFFF != crc:
            return kind, number, None
        return kind, number, body

    def replay(self, file, visit):
        """Calls ``visit(kind, number, body, offset)`` for each sound record, and with None as the body for
        a damaged one whose header fits what follows. Returns (end of the last sound record, file size,
        damaged records)."""
        size = file.seek(0, 2)
        offset = damaged = 0
        while offset < size:
            kind, number, body = self.read(file, offset)
            if body is not None:
                end = offset + HEADER_LEN + len(body)
                visit(kind, number, body, offset)
                offset = end
                continue
            following = self._next_sound(file, offset + 1, size)
            if following is None:
                break  # a torn tail: it was never reported as stored
            damaged += 1
            if kind is not None:
                file.seek(offset)
                file.readinto(self._view[:HEADER_LEN])
                length = struct.unpack_from(">H", self._view, 3)[0]
                if offset + HEADER_LEN + length == following:
                    visit(kind, number, None, offset)
            offset = following
        return offset, size, damaged

    def _next_sound(self, file, start, size):
        """The offset of the next sound record at or after ``start``, or None."""
        view = self._view
        while start + HEADER_LEN <= size:
            file.seek(start)
            count = file.readinto(view[:_SCAN_LEN])
            candidate = None
            for place in range(count - 1):
                if view[place] == 0x53 and view[place + 1] == 0x67:
                    candidate = start + place
                    break
            if candidate is None:
                start += max(1, count - 1)
            elif self.read(file, candidate)[2] is not None:
                return candidate
            else:
                start = candidate + 1
        return None


def sum_len(parts):
    length = 0
    for part in parts:
        length += len(part)
    return length
