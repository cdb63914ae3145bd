"""A payload of a known shape reads as it does when it is decoded; whatever differs isn't of that shape."""

from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from surge_backend.verify import shapes as shapes_module
from surge_backend.verify.device import DeviceKey
from surge_backend.verify.mac import MacKey
from surge_backend.verify.plain import read_reports
from surge_backend.verify.reading import ReadReport, read_whole
from surge_backend.verify.shapes import Shapes
from surge_wire.cbor import decode, encode
from surge_wire.cose import seal_mac0
from surge_wire.limits import REPORT_LEN_MAX
from surge_wire.report import COMMAND_COUNTER, PREVIOUS_END, TIME_MS, Report, Usage, encode_report
from surge_wire.senml import make_record

DEVICE = "daaaaaaaaaaaaaaaa"
KID = DEVICE.encode()
KEY = bytes(32)
KEYS = {KID: DeviceKey(DEVICE, MacKey(KEY), "oaaaaaaaaaaaaaaaa", None, "active")}

PACK = [
    make_record("t", "Cel", 20.5),
    make_record("wifi/rssi", "dBW", -93, 0.5),
    {0: "count", 2: 7},
    make_record("flash/free", "B", 1 << 40),
]
SHOWN = Report(1, 2, 3, 1_750_000_000_000, PACK, Usage(1, 2, 3, 4, 5, 1 << 40))
PAYLOAD = encode_report(SHOWN)


def learnt(*payloads: bytes) -> Shapes:
    shapes = Shapes()
    for payload in payloads:
        shapes.begin_batch()
        shapes.learn(KID, payload)
    return shapes


def facts(read: ReadReport) -> tuple[Any, ...]:
    usage = read.usage
    counters = None if usage is None else [getattr(usage, name) for name in sorted(Usage.__slots__)]
    return (read.fault, read.boot, read.seq, read.samples, read.previous_end, read.command_counter, counters)


def check(shapes: Shapes, payload: bytes) -> bool:
    """Whether ``payload`` is of a shape that is known; then it has to read as it does whole."""
    found = shapes.read(KID, b"before" + payload + b"after", 6, 6 + len(payload))
    if found is None:
        return False
    boot, seq, samples, usage = found
    envelope = seal_mac0(DEVICE, KEY, payload, REPORT_LEN_MAX)
    whole = read_whole(0, envelope, KEYS)
    assert facts(ReadReport(0, 0, "", DEVICE, boot, seq, samples, usage=usage)) == facts(whole)
    return True


@pytest.mark.threat(19)
def test_every_changed_byte_reads_as_it_does_whole():
    shapes = learnt(PAYLOAD)
    assert check(shapes, PAYLOAD)
    for place in range(len(PAYLOAD)):
        for value in range(256):
            check(shapes, PAYLOAD[:place] + bytes([value]) + PAYLOAD[place + 1 :])
        assert not check(shapes, PAYLOAD[:place])
        assert not check(shapes, PAYLOAD + PAYLOAD[:1])


uints = st.integers(0, (1 << 64) - 1) | st.sampled_from(
    [0, 23, 24, 255, 256, (1 << 32) - 1, 1 << 32, 1 << 53]
)
numbers = uints | st.integers(-(1 << 64), -1) | st.floats()
heads = st.sampled_from(
    [
        bytes([kind | size]) + bytes(rest)
        for kind in (0, 0x20, 0xE0)
        for size, rest in ((24, 1), (25, 2), (26, 4), (27, 8))
    ]
)


@pytest.mark.threat(19)
@given(
    counters=st.tuples(*[uints] * 10),
    values=st.tuples(*[numbers] * 5),
    taken=st.sampled_from([1, 2, 3]),
)
@example(counters=(0,) * 10, values=(float("nan"), 0, 0, 0, 0), taken=1)
@example(counters=(0,) * 10, values=(0, float("inf"), 0, 0, 0), taken=1)
def test_other_numbers_of_the_same_shape(counters: Any, values: Any, taken: int):
    fields = decode(PAYLOAD)
    boot, seq, uptime_ms, time_ms, *usage = counters
    fields[1], fields[2], fields[3], fields[4] = boot, seq, uptime_ms, time_ms
    fields[6] = dict(zip(fields[6], usage, strict=True))
    for record, value in zip(fields[5], values, strict=False):
        record[2] = value
    fields[5][1][6] = values[4]
    sound = max(boot, seq) < 1 << 32 and max(uptime_ms, time_ms, *usage) < 1 << 53
    sound &= all(value - value == 0 for value in values)
    assert check(learnt(PAYLOAD), cbor2.dumps(fields)) == sound


@pytest.mark.threat(19)
@given(head=heads, tail=st.binary(max_size=8), place=st.integers(0, len(PAYLOAD) - 1))
def test_other_forms_of_a_number(head: bytes, tail: bytes, place: int):
    check(learnt(PAYLOAD), PAYLOAD[:place] + head + tail + PAYLOAD[place + 1 :])
    check(learnt(PAYLOAD), PAYLOAD[:place] + head[:1] + tail + PAYLOAD[place + 1 :])


@pytest.mark.parametrize("label", [PREVIOUS_END, COMMAND_COUNTER])
def test_the_rarer_fields_are_decoded(label: int):
    payload = encode(decode(PAYLOAD) | {2: 0, label: 3})
    assert not check(learnt(payload), payload)


def test_other_names_units_and_fields_are_other_shapes():
    shapes = learnt(PAYLOAD)
    for name, unit in (("u", "Cel"), ("t", "m")):
        assert not check(
            shapes, encode_report(Report(1, 2, 3, 4, [make_record(name, unit, 20.5), *PACK[1:]], SHOWN.usage))
        )
    fields = decode(PAYLOAD)
    del fields[TIME_MS]
    assert not check(shapes, encode(fields))
    assert check(learnt(PAYLOAD, encode(fields)), encode(fields))


def test_a_board_of_the_same_kind_is_known_at_once():
    shapes = learnt(PAYLOAD)
    assert shapes.read(b"another", PAYLOAD, 0, len(PAYLOAD)) is not None


@pytest.mark.threat(18)
def test_what_is_learnt_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shapes_module, "SHAPES_MAX", 5)
    monkeypatch.setattr(shapes_module, "DEVICES_MAX", 3)
    payloads = [encode_report(Report(1, 2, 3, None, [make_record(f"n{i}", "m", 1)])) for i in range(20)]
    shapes = Shapes()
    shapes.begin_batch()
    for payload in payloads:
        shapes.learn(KID, payload)
    assert [check(shapes, payload) for payload in payloads].count(True) == 1  # NEW_MAX a batch
    for number, payload in enumerate(payloads):
        shapes.begin_batch()
        shapes.learn(b"device %d" % (number % 7), payload)
        assert check(shapes, payload)
        assert len(shapes._shapes) <= 5
        assert len(shapes._by_device) <= 3
    assert all(len(known) <= shapes_module.DEVICE_SHAPES_MAX for known in shapes._by_device.values())


def test_reports_are_read_through_shapes():
    """The first is decoded, the others match; all read the same."""
    envelopes = [
        seal_mac0(DEVICE, KEY, encode_report(Report(1, seq, seq * 9, None, PACK)), REPORT_LEN_MAX)
        for seq in (0, 5, 200, 70_000)
    ]
    for position, read in enumerate(read_reports(envelopes, KEYS)):
        assert read == read_whole(position, envelopes[position], KEYS)
