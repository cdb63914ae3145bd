"""The outbox's segment files: a chain that is appended to at one end and freed at the other.

A segment is "%08x.seg": a HEAD record (``surge_device.outbox_record``), then records, each in one segment
whole. Doesn't know what records mean; ``surge_device.outbox_store`` does. Rules:
- ``append`` doesn't sync; what was appended is durable once ``sync`` has returned, and only then.
- A segment into which a write or a sync failed is never appended to again: what its tail holds is unknown.
- Segments are freed from the old end only, so a record never outlives one that overrides it.
- Replay trims a torn tail, and steps over damage inside a segment to the next sound record.
"""

from surge_device.outbox_record import BODY_MAX, HEAD, HEADER_LEN, RecordBuffer, sum_len
from surge_device.storage import ENOENT, ENOSPC

SEGMENT_BYTES_MIN = 2 * (HEADER_LEN + BODY_MAX)


class SegmentLog:
    def __init__(self, storage, segment_bytes, head):
        """``head()`` gives the body of the HEAD record."""
        if segment_bytes < SEGMENT_BYTES_MIN:
            raise ValueError("a segment is at least %d bytes" % SEGMENT_BYTES_MIN)
        self.segments = []  # ids on flash, oldest first
        self.headed = 0  # the newest segment whose HEAD is durable: all before it may go
        self.damaged = 0  # records that replay stepped over, and segments that it couldn't read
        self.syncs = 0
        self._storage = storage
        self._segment_bytes = segment_bytes
        self._head = head
        self._records = RecordBuffer()
        self._next_id = 1
        self._file = None
        self._size = 0
        self._unsynced = False

    def fits(self, length):
        """Whether a record with a body of ``length`` goes into the open segment."""
        return self._file is not None and self._size + HEADER_LEN + length <= self._segment_bytes

    def append(self, kind, number, *parts):
        """Writes one record; returns (segment, offset). Raises OSError, after which the segment is closed
        for good."""
        if not self.fits(sum_len(parts)):
            self._rotate()
        offset = self._size
        try:
            self._write(kind, number, parts)
        except OSError:
            self.abandon()
            raise
        return self.segments[-1], offset

    def sync(self):
        """Returns when all that was appended is durable. Raises OSError, after which the segment is closed
        for good."""
        if self._file is not None and self._unsynced:
            self.syncs += 1
            try:
                self._storage.sync(self._file)
            except OSError:
                self.abandon()
                raise
            self._unsynced = False

    def abandon(self):
        """Never appends to the open segment again."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                pass  # it is given up either way; replay reads what is on flash

    def read(self, segment, offset, number):
        """The body of a record as fresh bytes, or None when it isn't there sound any more."""
        try:
            with self._storage.open(_name(segment), "rb") as file:
                _, found, body = self._records.read(file, offset)
                return bytes(body) if body is not None and found == number else None
        except OSError:
            return None

    def free_oldest(self):
        """Deletes the oldest segment, durably before the next may go."""
        try:
            self._storage.remove(_name(self.segments[0]))
        except OSError as error:
            if error.args[0] != ENOENT:
                raise
        self.segments.pop(0)
        self._storage.sync_names()

    def load(self, visit):
        """Replays all segments, oldest first: ``visit(kind, number, body view or None, segment, offset)``."""
        ids = []
        for name in self._storage.names():
            if len(name) == 12 and name.endswith(".seg"):
                ids.append(int(name[:8], 16))
        ids.sort()
        end, size = 0, -1
        for segment in ids:
            end, size = self._replay(segment, visit)
            self.segments.append(segment)
            self._next_id = segment + 1
        if ids:
            # What a process that died wrote or named but didn't sync becomes safe to rely on only here.
            self._storage.sync_names()
            self._file = self._storage.open(_name(ids[-1]), "ab")
            self._size, self._unsynced = size, True
            self.sync()
            if not 0 < end == size:  # a torn tail: the next record goes to a new segment
                self.abandon()

    def close(self):
        self.sync()
        self.abandon()

    def _replay(self, segment, visit):
        try:
            with self._storage.open(_name(segment), "rb") as file:
                end, size, damaged = self._records.replay(file, self._visitor(segment, visit))
        except OSError:
            self.damaged += 1
            return 0, -1
        self.damaged += damaged
        return end, size

    def _visitor(self, segment, visit):
        def each(kind, number, body, offset):
            if kind == HEAD and body is not None:
                self.headed = segment
            visit(kind, number, body, segment, offset)

        return each

    def _rotate(self):
        self.sync()
        self.abandon()
        segment, self._next_id = self._next_id, self._next_id + 1
        self._file, self._size = self._storage.open(_name(segment), "wb"), 0
        try:
            self._write(HEAD, 0, (self._head(),))
            self.sync()
            self._storage.sync_names()
        except OSError:
            self.abandon()
            try:
                self._storage.remove(_name(segment))
            except OSError:
                pass  # a segment with nothing but a HEAD says nothing false
            raise
        self.segments.append(segment)
        self.headed = segment

    def _write(self, kind, number, parts):
        header = self._records.header(kind, number, parts)
        self._unsynced = True
        self._put(header)
        for part in parts:
            self._put(part)

    def _put(self, data):
        if self._file.write(data) != len(data):
            raise OSError(ENOSPC)  # the file system took a part only
        self._size += len(data)


def _name(segment):
    return "%08x.seg" % segment
