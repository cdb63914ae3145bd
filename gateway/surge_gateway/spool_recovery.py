"""Opening a spool after a stop of any kind: what is whole is served, the rest is set aside and said.

Place in the flow: once at start, before anything is accepted. Rules kept: a torn tail (the write that a
crash cut) is trimmed, since its reports were never acknowledged; but a tail can also be an acknowledged
record that rotted, so its bytes are set aside too; damage inside is skipped, the records behind it are
served (threat 14); the caller sees every record that is still waiting, to rebuild what it knows. A process
that died may have left bytes and names that no fsync covers, and a repeated report of those would be
acknowledged: so all that is served is synced first.
"""

from collections.abc import Callable
from pathlib import Path

import structlog

from surge_gateway.files import Files, remove_if_there
from surge_gateway.quarantine import Quarantine
from surge_gateway.spool import Segment, Spool, parse_segment_name
from surge_gateway.spool_record import Position, Record, scan_records

log = structlog.get_logger()


def open_spool(
    files: Files,
    folder: Path,
    quarantine: Quarantine,
    random: Callable[[int], bytes],
    *,
    len_max: int,
    released: Position,
    cursor: Position,
    on_record: Callable[[Position, Record], None],
) -> Spool:
    """The spool in `folder`. `on_record(end, record)` gets each record after `released`, which receipts
    cover.

    `cursor`: up to here sealed batches stand for the spool; every new segment's number is above it. A
    number must not come back, for positions on disk name it. Raises OSError.
    """
    files.make_folder(folder)
    segments = []
    for name in files.names(folder):
        parsed = parse_segment_name(name)
        if parsed is None:
            continue
        number, salt = parsed
        if number < released.segment:
            remove_if_there(files, folder / name)
            continue
        path = folder / name
        data = files.read(path)
        if number == released.segment and released.offset >= len(data):
            remove_if_there(files, path)  # a receipt covers it, and the stop came before it was deleted
            continue
        start = min(released.offset, len(data)) if number == released.segment else 0
        length = _recover_segment(files, path, number, salt, data, start, quarantine, on_record)
        segments.append(Segment(number, salt, path, length))
    files.sync_folder(folder)
    return Spool(files, folder, segments, quarantine, random, len_max=len_max, number_floor=cursor.segment)


def _recover_segment(
    files: Files,
    path: Path,
    number: int,
    salt: int,
    data: bytes,
    start: int,
    quarantine: Quarantine,
    on_record: Callable[[Position, Record], None],
) -> int:
    """Hand out the records; the length of the segment without its torn tail."""
    for found in scan_records(data, start, salt):
        if isinstance(found, Record):
            on_record(Position(number, found.end), found)
            continue
        damaged = data[found.start : found.end]
        quarantine.keep(number, found.start, damaged, "tail" if found.tail else "damaged")
        if found.tail:
            log.warning("spool_tail_trimmed", segment=number, at=found.start, len=found.end - found.start)
            _make_durable(files, path, found.start)
            return found.start
    _make_durable(files, path, None)
    return len(data)


def _make_durable(files: Files, path: Path, length: int | None) -> None:
    file = files.open_append(path)
    try:
        if length is not None:
            file.truncate(length)
        file.sync()
    finally:
        file.close()
