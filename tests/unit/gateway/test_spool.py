"""The spool's file format and recovery: torn anywhere, flipped anywhere (threat 14)."""

import struct
from pathlib import Path
from zlib import crc32

import pytest
from gateway_files import SimulatedFiles
from gateway_reports import make_device

from surge_gateway.quarantine import QUARANTINE_LEN_MAX, Quarantine
from surge_gateway.spool import READ_LEN, Spool, parse_segment_name, segment_name
from surge_gateway.spool_record import (
    HEADER_LEN,
    MAGIC,
    START,
    Damage,
    Position,
    Record,
    encode_record,
    scan_records,
)
from surge_gateway.spool_recovery import open_spool

FOLDER = Path("spool")
SALT = 0x12345678


def records(count: int, seed: int = 1) -> list[bytes]:
    device = make_device(seed)
    return [device.report() for _ in range(count)]


def open_on(disk: SimulatedFiles, found: list[Record] | None = None, len_max: int = 1 << 20) -> Spool:
    quarantine = Quarantine(disk, Path("quarantine"))
    quarantine.open()
    return open_spool(
        disk,
        FOLDER,
        quarantine,
        disk.random.randbytes,
        len_max=len_max,
        released=START,
        cursor=START,
        on_record=lambda _end, record: None if found is None else found.append(record),
    )


def on_disk(reports: list[bytes]) -> tuple[SimulatedFiles, Path]:
    disk = SimulatedFiles()
    spool = open_on(disk)
    for number, report in enumerate(reports):
        spool.append([(1000 + number, report)])
    spool.close()
    (name,) = disk.names(FOLDER)
    return disk, FOLDER / name


def test_reads_back_what_was_appended_in_order() -> None:
    reports = records(5)
    disk, _path = on_disk(reports)
    found: list[Record] = []
    spool = open_on(disk, found)
    assert [(record.received_ms, record.report) for record in found] == [
        (1000 + number, report) for number, report in enumerate(reports)
    ]
    assert [placed.record.report for placed in spool.read(START)] == reports
    middle = list(spool.read(START))[1].end
    assert [placed.record.report for placed in spool.read(middle)] == reports[2:]


@pytest.mark.threat(14)
def test_torn_at_every_byte_serves_what_is_whole_and_says_the_rest() -> None:
    reports = records(3)
    disk, path = on_disk(reports)
    data = disk.read(path)
    ends = [record.end for record in scan_records(data, 0, parse_segment_name(path.name)[1])]
    for length in range(len(data)):
        disk.put(path, data[:length])
        found: list[Record] = []
        spool = open_on(disk, found)
        whole = sum(end <= length for end in ends)
        assert [record.report for record in found] == reports[:whole]
        torn = length not in (0, *ends)
        assert disk.size(path) == (ends[whole - 1] if whole else 0)
        # It goes on: the next report is served together with what was whole.
        spool.append([(9, reports[2])])
        assert [placed.record.report for placed in spool.read(START)] == [*reports[:whole], reports[2]]
        kept = disk.names(Path("quarantine"))
        assert bool(kept) == torn
        for name in [*kept, *disk.names(FOLDER)]:
            folder = Path("quarantine") if name in kept else FOLDER
            if folder / name != path:
                disk.remove(folder / name)


@pytest.mark.threat(14)
def test_every_flipped_byte_is_detected_and_the_other_reports_are_served() -> None:
    reports = records(3)
    disk, path = on_disk(reports)
    data = disk.read(path)
    salt = parse_segment_name(path.name)[1]
    spans = [(record.start, record.end) for record in scan_records(data, 0, salt)]
    for at in range(len(data)):
        damaged = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        hit = next(number for number, (start, end) in enumerate(spans) if start <= at < end)
        found = list(scan_records(damaged, 0, salt))
        served = [item.report for item in found if isinstance(item, Record)]
        assert served == [report for number, report in enumerate(reports) if number != hit]
        (damage,) = [item for item in found if isinstance(item, Damage)]
        assert (damage.start, damage.end) == spans[hit]


@pytest.mark.threat(14)
def test_damage_inside_is_set_aside_whole_once() -> None:
    reports = records(3)
    disk, path = on_disk(reports)
    data = disk.read(path)
    salt = parse_segment_name(path.name)[1]
    _first, second, _third = scan_records(data, 0, salt)
    at = second.start + 30
    disk.put(path, data[:at] + b"?" + data[at + 1 :])
    spool = open_on(disk)
    assert [placed.record.report for placed in spool.read(START)] == [reports[0], reports[2]]
    list(spool.read(START))
    (name,) = disk.names(Path("quarantine"))
    assert disk.read(Path("quarantine") / name) == disk.read(path)[second.start : second.end]


def test_a_report_that_contains_a_record_is_not_taken_for_one() -> None:
    # The device knows the layout, not the salt.
    inner = b"forged"
    body = struct.pack(">IQ", len(inner), 7) + inner
    fake = MAGIC + struct.pack(">I", crc32(body)) + body
    data = bytearray(encode_record(SALT, 1, b"x" * 40 + fake) + encode_record(SALT, 2, b"honest"))
    data[30] ^= 1
    found = list(scan_records(bytes(data), 0, SALT))
    assert [item.report for item in found if isinstance(item, Record)] == [b"honest"]


def test_segments_are_deleted_only_when_wholly_released() -> None:
    disk = SimulatedFiles()
    spool = open_on(disk, len_max=1600)  # segments of 200 bytes
    *reports, last = records(6)
    for report in reports:
        spool.append([(1, report)])
    placed = list(spool.read(START))
    names = disk.names(FOLDER)
    assert len(names) == 3
    spool.release(placed[2].end)
    assert disk.names(FOLDER) == names[1:]
    spool.release(placed[4].end)
    assert disk.names(FOLDER) == names[2:]  # the one being written stays
    assert spool.length == disk.size(FOLDER / names[2])
    spool.release(spool.append([(1, last)]))
    assert disk.names(FOLDER) == []  # it had become full
    assert spool.length == 0


def test_released_segments_are_removed_at_the_start_and_numbers_do_not_come_back() -> None:
    disk = SimulatedFiles()
    quarantine = Quarantine(disk, Path("quarantine"))
    spool = open_on(disk)
    spool.append([(1, b"one")])
    spool.close()
    cursor = Position(41, 0)
    spool = open_spool(
        disk,
        FOLDER,
        quarantine,
        disk.random.randbytes,
        len_max=1 << 20,
        released=cursor,
        cursor=cursor,
        on_record=lambda _end, _record: pytest.fail("released"),
    )
    spool.append([(1, b"two")])
    assert [parse_segment_name(name)[0] for name in disk.names(FOLDER)] == [42]


@pytest.mark.parametrize(
    "name", ["x.seg", "1-2.seg", "000000000001-1234567z.seg", "a-12345678.seg", "README"]
)
def test_other_files_in_the_folder_are_left_alone(name: str) -> None:
    assert parse_segment_name(name) is None


def test_segment_names_round_trip() -> None:
    assert parse_segment_name(segment_name(7, SALT)) == (7, SALT)


def test_quarantine_is_bounded_and_still_counts() -> None:
    disk = SimulatedFiles()
    quarantine = Quarantine(disk, Path("quarantine"))
    quarantine.open()
    quarantine.keep(1, 0, bytes(QUARANTINE_LEN_MAX), "damaged")
    quarantine.keep(2, 0, b"more", "damaged")
    assert len(disk.names(Path("quarantine"))) == 1
    assert quarantine.spans == 2


def test_record_of_the_longest_report_fits_and_a_longer_length_is_damage() -> None:
    longest = bytes(4096)
    assert next(iter(scan_records(encode_record(1, 0, longest), 0, 1))) == Record(
        0, 4096 + HEADER_LEN, 0, longest
    )
    too_long = encode_record(1, 0, bytes(4097))
    assert [type(item) for item in scan_records(too_long, 0, 1)] == [Damage]


@pytest.mark.threat(14)
@pytest.mark.parametrize("damage_len", [0, 10, READ_LEN - 10, READ_LEN + 5000, 3 * READ_LEN])
def test_a_long_segment_is_read_in_parts_around_damage_of_any_length(damage_len: int) -> None:
    disk = SimulatedFiles()
    spool = open_on(disk, len_max=1 << 40)
    reports = [bytes([number % 256]) * 4096 for number in range(READ_LEN * 6 // 4096)]
    spool.append([(1, report) for report in reports])
    (name,) = disk.names(FOLDER)
    data = disk.read(FOLDER / name)
    at = READ_LEN // 2
    disk.put(FOLDER / name, data[:at] + bytes(damage_len) + data[at + damage_len :])
    record_len = 4096 + HEADER_LEN
    first, last = at // record_len, (at + damage_len - 1) // record_len
    whole = reports if damage_len == 0 else reports[:first] + reports[last + 1 :]
    placed = list(spool.read(START))
    assert [item.record.report for item in placed] == whole
    assert placed[-1].end == spool.end
    kept = [disk.read(Path("quarantine") / name) for name in disk.names(Path("quarantine"))]
    expected = (last + 1 - first) * record_len if damage_len else 0
    assert sum(len(part) for part in kept) == expected
    middle = len(placed) // 2
    rest = [item.record.report for item in spool.read(placed[middle].end)]
    assert rest == [item.record.report for item in placed[middle + 1 :]]


@pytest.mark.threat(15)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_group_that_fills_the_spool_alone_is_freed_too(restarted: bool) -> None:
    disk = SimulatedFiles()
    spool = open_on(disk, len_max=1000)
    end = spool.append([(1, report) for report in records(20)])
    assert spool.full
    if restarted:  # before the segment could be deleted, and after the receipt was noted
        spool.close()
        quarantine = Quarantine(disk, Path("quarantine"))
        spool = open_spool(
            disk,
            FOLDER,
            quarantine,
            disk.random.randbytes,
            len_max=1000,
            released=end,
            cursor=end,
            on_record=lambda _end, _record: None,
        )
    else:
        spool.release(end)
    assert not spool.full
    later = spool.append([(2, records(1, 2)[0])])
    assert later > end  # the number of the segment that is gone does not come back
    assert [placed.record.received_ms for placed in spool.read(end)] == [2]
