"""The spool: reports on disk, in the order they came, until a receipt covers them.

Place in the flow: ingress gathers reports, `append` makes a whole group durable at once, then they are
acknowledged; the batcher reads from here and `release` deletes what receipts cover. Does not judge reports,
does not run in several threads (one disk thread calls everything here), does not retry.

Rules kept: `append` returns only after an fsync that covers every report of the group, or raises OSError
and then the group doesn't count; a segment whose write or fsync failed is never written to again, for a
kernel that failed an fsync may have forgotten the bytes; segments are deleted whole, oldest first; bytes
that don't check are set aside, counted and logged, never dropped in silence (threats 14 and 15).
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from surge_gateway.files import AppendFile, Files, remove_if_there
from surge_gateway.quarantine import Quarantine
from surge_gateway.spool_record import HEADER_LEN, Position, Record, encode_record, scan_records
from surge_wire.limits import REPORT_LEN_MAX

log = structlog.get_logger()

SEGMENTS_PER_SPOOL = 8  # a full spool frees itself in steps of one part in so many
SEGMENT_LEN_MAX = 8 * 1024 * 1024  # a segment that has reached this gets no further group
READ_LEN = 256 * 1024  # read at a time: a batch takes no more than it needs
RECORD_LEN_MAX = HEADER_LEN + REPORT_LEN_MAX
SALT_LEN = 4
SUFFIX = ".seg"


@dataclass(frozen=True, slots=True)
class Placed:
    """A record, and where it stands: its own offsets count from `base` in the segment."""

    segment: int
    base: int
    record: Record

    @property
    def end(self) -> Position:
        return Position(self.segment, self.base + self.record.end)


@dataclass(slots=True)
class Segment:
    """`length` counts what is known to be on the medium; the file may be longer after a failed write."""

    number: int
    salt: int
    path: Path
    length: int


def segment_name(number: int, salt: int) -> str:
    """The file name: number for the order, salt for the check sums."""
    return f"{number:012d}-{salt:08x}{SUFFIX}"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """`(number, salt)`, or None for a file that is no segment."""
    stem, dot, _ = name.partition(SUFFIX)
    number, dash, salt = stem.partition("-")
    if not (dot and dash and number.isdecimal() and len(salt) == 2 * SALT_LEN):
        return None
    try:
        return int(number), int(salt, 16)
    except ValueError:
        return None


class Spool:
    """Segments in a folder. Made by `spool_recovery.open_spool`."""

    def __init__(
        self,
        files: Files,
        folder: Path,
        segments: Sequence[Segment],
        quarantine: Quarantine,
        random: Callable[[int], bytes],
        *,
        len_max: int,
        number_floor: int,
    ) -> None:
        self._files = files
        self._folder = folder
        self._segments = {segment.number: segment for segment in segments}
        self._quarantine = quarantine
        self._random = random
        self._len_max = len_max
        self._segment_len_max = min(SEGMENT_LEN_MAX, max(1, len_max // SEGMENTS_PER_SPOOL))
        # Above all numbers that any position on disk names, also where those segments are gone.
        self._next_number = max([number_floor, *self._segments]) + 1
        self._open: tuple[Segment, AppendFile] | None = None  # where the next group goes
        self._len = sum(segment.length for segment in segments)
        self.failed_appends = 0

    @property
    def length(self) -> int:
        """Bytes in all segments."""
        return self._len

    @property
    def full(self) -> bool:
        """Whether the limit is reached: nothing is accepted until receipts free a segment."""
        return self._len >= self._len_max

    @property
    def end(self) -> Position:
        """After the last durable record."""
        if not self._segments:
            return Position(0, 0)
        last = self._segments[max(self._segments)]
        return Position(last.number, last.length)

    def append(self, group: Sequence[tuple[int, bytes]]) -> Position:
        """Make `(received_ms, report)`s durable.

        OSError: none of them counts, and the next call starts afresh.
        """
        if self.full:
            raise OSError(errno.ENOSPC, "spool limit reached")
        try:
            segment, file = self._writable()
        except OSError:
            self.failed_appends += 1
            raise
        data = b"".join([encode_record(segment.salt, received_ms, report) for received_ms, report in group])
        try:
            file.write(data)
            file.sync()
            if segment.length == 0:
                self._files.sync_folder(self._folder)
        except OSError:
            self.failed_appends += 1
            self._abandon()
            raise
        segment.length += len(data)
        self._len += len(data)
        return Position(segment.number, segment.length)

    def _writable(self) -> tuple[Segment, AppendFile]:
        if self._open is not None and self._open[0].length < self._segment_len_max:
            return self._open
        self.close()
        number = self._next_number
        self._next_number += 1  # also where making the file fails: no number has two files
        salt = int.from_bytes(self._random(SALT_LEN), "big")
        path = self._folder / segment_name(number, salt)
        self._open = (Segment(number, salt, path, 0), self._files.create(path))
        self._segments[number] = self._open[0]
        return self._open

    def _abandon(self) -> None:
        """Never write to this segment again; cut off what is not known to be durable, as far as the disk
        lets us.
        """
        if self._open is None:
            return
        segment, file = self._open
        self._open = None
        log.warning("spool_segment_abandoned", segment=segment.number, durable_len=segment.length)
        try:
            if segment.length:
                file.truncate(segment.length)
                file.sync()
        except OSError as error:
            log.warning("spool_truncate_failed", segment=segment.number, error=str(error))
        try:
            file.close()
        except OSError as error:
            log.warning("spool_close_failed", segment=segment.number, error=str(error))
        if segment.length == 0:
            self._forget(segment)
        else:
            self._verify(segment)

    def _verify(self, segment: Segment) -> None:
        """Read back what earlier fsyncs covered, so that damage is known now and not when it is wanted."""
        try:
            for _ in self._read_segment(segment, 0):
                pass
        except OSError as error:
            log.error("spool_read_back_failed", segment=segment.number, error=str(error))

    def _forget(self, segment: Segment) -> None:
        try:
            remove_if_there(self._files, segment.path)
        except OSError as error:
            log.warning("spool_remove_failed", segment=segment.number, error=str(error))
            return  # stays in the table, and goes with the next release
        self._len -= segment.length
        del self._segments[segment.number]

    def read(self, start: Position) -> Iterator[Placed]:
        """Every durable record from `start` on.

        Damage on the way is set aside and counted. Raises OSError.
        """
        for number in sorted(self._segments):
            segment = self._segments[number]
            if number < start.segment:
                continue
            yield from self._read_segment(segment, start.offset if number == start.segment else 0)

    def _read_segment(self, segment: Segment, offset: int) -> Iterator[Placed]:
        at = offset
        while at < segment.length:
            data = self._files.read_part(segment.path, at, min(READ_LEN, segment.length - at))
            if not data:  # the file is shorter than what was made durable
                self._quarantine.keep(segment.number, at, b"", "missing")
                return
            last_part = at + len(data) >= segment.length
            taken = len(data)
            for found in scan_records(data, 0, segment.salt):
                if isinstance(found, Record):
                    yield Placed(segment.number, at, found)
                elif found.tail and not last_part and found.start > 0:
                    taken = found.start  # perhaps a record that goes on in the next part
                else:
                    if found.tail and not last_part:
                        taken = len(data) - RECORD_LEN_MAX
                    damaged = data[found.start : min(found.end, taken)]
                    self._quarantine.keep(segment.number, at + found.start, damaged, "damaged")
            at += taken

    def release(self, position: Position) -> None:
        """Delete the segments that lie wholly before `position`; one that can't be deleted now goes next
        time.
        """
        for number in sorted(self._segments):
            segment = self._segments[number]
            if Position(number, segment.length) > position:
                return
            if self._open is not None and self._open[0] is segment:
                if segment.length < self._segment_len_max:
                    return
                self._close_released()  # full: no group goes there any more
            self._forget(segment)

    def _close_released(self) -> None:
        try:
            self.close()
        except OSError as error:  # its records have their receipts
            log.warning("spool_close_failed", error=str(error))

    def close(self) -> None:
        """Close the file that is being written."""
        if self._open is not None:
            file = self._open[1]
            self._open = None
            file.close()
