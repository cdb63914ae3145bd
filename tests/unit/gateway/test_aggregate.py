"""Windows: right numbers, usage and everything that is not a plain reading as it came, nothing unaccounted
for.
"""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from gateway_reports import Device, make_device
from hypothesis import given
from hypothesis import strategies as st

from surge_gateway.aggregate import Aggregator
from surge_gateway.cut import Cut, CutLimits
from surge_gateway.spool import Placed
from surge_gateway.spool_record import Record
from surge_wire.batch import Batch, decode_batch, encode_batch, seal_batch
from surge_wire.limits import BATCH_LEN_MAX, BATCH_REPORTS_MAX, RECORDS_MAX, REPORT_LEN_MAX
from surge_wire.report import decode_report, open_report
from surge_wire.senml import make_record

MINUTE = 60_000
START_MS = 28_000_000 * MINUTE
LIMITS = CutLimits(500, 256 * 1024)


def placed(reports: list[tuple[int, bytes]]) -> Iterator[Placed]:
    for number, (received_ms, report) in enumerate(reports):
        yield Placed(1, 0, Record(number, number + 1, received_ms, report))


def cut(
    reports: list[tuple[int, bytes]], limits: CutLimits = LIMITS, aggregator: Aggregator | None = None
) -> Cut:
    made = (aggregator or Aggregator(MINUTE)).cut(placed(reports), limits)
    made.on_sealed()
    decode_batch(
        encode_batch(Batch(0, bytes(32), 1, made.reports, made.received_ms, made.windows, made.summarised))
    )
    return made


def ids(cut: Cut) -> set[tuple[str, int, int]]:
    """Every (device, boot, seq) that the cut stands for."""
    found = set()
    for report in cut.reports:
        device_id, opened = open_report(report)
        decoded = decode_report(opened.payload)
        found.add((device_id, decoded.boot, decoded.seq))
    for summary in cut.summarised:
        for first, last in summary.ranges:
            found |= {(summary.device_id, summary.boot, seq) for seq in range(first, last + 1)}
    return found


@given(st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=50))
def test_numbers(values: list[float]) -> None:
    device = make_device()
    made = cut([(START_MS + number, device.report(value)) for number, value in enumerate(values)])
    (window,) = made.windows
    assert (window.device_id, window.name, window.unit) == (device.device_id, "temperature", "Cel")
    assert (window.count, window.minimum, window.maximum) == (len(values), min(values), max(values))
    assert window.mean == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert (window.from_ms, window.to_ms) == (START_MS, START_MS + MINUTE)
    assert made.reports == []
    assert made.taken_count == len(values)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=60))
def test_every_report_is_forwarded_or_listed_exactly_once(events: list[tuple[int, bool]]) -> None:
    devices = [make_device(seed) for seed in range(3)]
    reports = [
        (START_MS + number, devices[which].report(usage=usage))
        for number, (which, usage) in enumerate(events)
    ]
    made = cut(reports)
    expected = {(device.device_id, 1, seq) for device in devices for seq in range(device.seq)}
    assert ids(made) == expected
    assert sum(window.count for window in made.windows) + len(made.reports) == len(reports)


def verbatim_cases(device: Device) -> dict[str, bytes]:
    return {
        "first of a boot": device.report(previous_end=7),  # made first: only seq 0 may carry it
        "usage": device.report(usage=True),
        "text": device.report(pack=[make_record("state", "", "open")]),
        "switch": device.report(pack=[make_record("door", "", True)]),
        "time of its own": device.report(pack=[make_record("temperature", "Cel", 1.0, -30)]),
        "sum": device.report(pack=[{0: "energy", 1: "J", 5: 3}]),
        "malformed pack": device.report(pack=[{99: 1}]),
        "late": device.report(time_ms=START_MS - 10 * MINUTE),
        "huge": device.report(pack=[make_record("x", "", 1e305)]),
        "command executed": device.report(command_counter=3),
    }


@pytest.mark.parametrize("kind", verbatim_cases(make_device()))
def test_goes_as_it_came(kind: str) -> None:
    report = verbatim_cases(make_device())[kind]
    made = cut([(START_MS, report)])
    assert made.reports == [report]
    assert made.windows == made.summarised == []


def test_a_command_counter_is_told_once_and_again_if_the_batch_was_not_written() -> None:
    device = make_device()
    aggregator = Aggregator(MINUTE)
    first = [(START_MS, device.report(command_counter=3))]
    made = aggregator.cut(placed(first), LIMITS)  # not sealed
    assert made.reports
    assert cut(first, aggregator=aggregator).reports
    assert cut([(START_MS, device.report(command_counter=3))], aggregator=aggregator).reports == []
    assert cut([(START_MS, device.report(command_counter=4))], aggregator=aggregator).reports


def test_other_bytes_under_a_known_seq_go_as_they_came() -> None:
    device = make_device()
    clone = Device(device.device_id, device.key)
    first, second = device.report(1.0), clone.report(2.0)
    made = cut([(START_MS, first), (START_MS, second)])
    assert made.reports == [second]


def test_a_cut_ends_with_its_window() -> None:
    device = make_device()
    reports = [(START_MS + 1000, device.report(1.0)), (START_MS + MINUTE, device.report(2.0))]
    made = cut(reports)
    assert made.taken_count == 1
    assert made.next_received_ms == START_MS + MINUTE


def test_parts_of_a_window_do_not_overlap() -> None:
    devices = [make_device(seed) for seed in range(50)]
    reports = [(START_MS + number, device.report()) for number, device in enumerate(devices)]
    aggregator = Aggregator(MINUTE)
    small = CutLimits(500, 8 * 1024)
    spans = []
    rest = reports
    while rest:
        made = cut(rest, small, aggregator)
        assert made.taken_count
        rest = rest[made.taken_count :]
        spans.append((made.windows[0].from_ms, made.windows[0].to_ms))
    assert len(spans) > 1
    assert spans[0][0] == START_MS
    assert spans[-1][1] == START_MS + MINUTE
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_empty_spool_gives_an_empty_cut() -> None:
    assert cut([]).taken_count == 0


def test_the_largest_batch_stays_within_the_wires_limit() -> None:
    """All but full of reports as they came, then one that makes the most and longest windows."""
    names = [{0: f"{number:04d}", 1: "m2", 2: 0.1 + number} for number in range(RECORDS_MAX)]
    names[0] |= {-2: "n" * 60}
    widest = make_device().report(pack=names)
    limits = CutLimits(BATCH_REPORTS_MAX, BATCH_LEN_MAX - 4096)
    reports = [(START_MS, bytes(REPORT_LEN_MAX)) for _ in range(limits.bytes_max // (REPORT_LEN_MAX + 16))]
    made = cut([*reports, (START_MS, widest), (START_MS, widest)], limits)
    batch = Batch(0, bytes(32), 1, made.reports, made.received_ms, made.windows, made.summarised)
    assert len(seal_batch("gaaaaaaaaaaaaaaaa", lambda _data: bytes(64), encode_batch(batch))) <= BATCH_LEN_MAX
    assert made.next_received_ms == START_MS
    assert len(cut([(START_MS, widest)], limits).windows) == RECORDS_MAX
