"""Reading reports: the order of faults, and counting samples the fast way and the whole way alike."""

import hmac
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surge_backend.verify import pack as pack_module
from surge_backend.verify.device import DeviceKey
from surge_backend.verify.mac import MacKey
from surge_backend.verify.pack import count_samples, plain_samples
from surge_backend.verify.plain import read_reports
from surge_backend.verify.reading import claimed_kids, read_whole
from surge_wire.cose import seal_mac0
from surge_wire.errors import DecodeError
from surge_wire.limits import REPORT_LEN_MAX
from surge_wire.report import Report, Usage, encode_report, seal_report
from surge_wire.senml import (
    BASE_NAME,
    BASE_UNIT,
    BASE_VALUE,
    BOOL,
    NAME,
    SUM,
    TEXT,
    TIME,
    UNIT,
    VALUE,
    make_record,
    resolve_pack,
)
from surge_wire.units import is_registered
from surge_wire.verdicts import ACCEPTED, BAD_MAC, MALFORMED, UNKNOWN_DEVICE

DEVICE = "daaaaaaaaaaaaaaaa"
KEY = bytes(range(32))
OTHER_KEY = bytes(32)
KEYS = {DEVICE.encode(): DeviceKey(DEVICE, MacKey(KEY), "oaaaaaaaaaaaaaaaa", None, "active")}


def sealed(pack: Any, key: bytes = KEY) -> bytes:
    return seal_report(DEVICE, key, Report(1, 2, 3, pack=pack))


def fault(envelope: bytes, keys: dict[bytes, DeviceKey] | None = None) -> int:
    return read_reports([envelope], KEYS if keys is None else keys)[0].fault


GOOD = [make_record("t", "Cel", 20)]


def test_a_good_report_is_read_whole():
    envelope = sealed(GOOD)
    found = read_reports([b"x", envelope], KEYS)[1]
    assert (found.position, found.fault, found.device_id, found.samples, found.length) == (
        1,
        ACCEPTED,
        DEVICE,
        1,
        len(envelope),
    )
    assert (found.boot, found.seq) == (1, 2)
    assert claimed_kids([b"x", envelope]) == {b"", DEVICE.encode()}


@pytest.mark.threat(19)
def test_a_reason_is_text_that_every_database_takes():
    """PostgreSQL stores no NUL: the batch would fail for ever, and hold up every batch behind it."""
    mark = "\N{REPLACEMENT CHARACTER}"
    found = read_whole(0, sealed([{NAME: "t", UNIT: "x\x00\x1b[2J\u2028", VALUE: 1.0}]), KEYS)
    assert (found.fault, found.detail) == (
        MALFORMED,
        f"unit not in SenML's registry: x{mark}{mark}[2J{mark}",
    )


def test_malformed_comes_before_unknown_device_comes_before_bad_mac():
    assert fault(sealed([{0: "t"}], OTHER_KEY), {}) == MALFORMED
    assert fault(sealed(GOOD, OTHER_KEY), {}) == UNKNOWN_DEVICE
    assert fault(sealed(GOOD, OTHER_KEY)) == BAD_MAC
    assert fault(sealed(GOOD)) == ACCEPTED


@pytest.mark.threat(19)
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"\xa0",
        b"\xa1\x01\x01",
        b"\xa4\x01\x01\x02\x02\x03\x03\x05\x80",
        b"\xa4\x01\x01\x02\x02\x03\x03\x05" + b"\x81" * 100,
        b"\xa5\x01\x01\x01\x01\x02\x02\x03\x03\x05\x80",
        b"\xbf\x01\x01\xff",
        b"\xa4\x01\x01\x02\x02\x03\x03\x05\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_a_payload_that_breaks_the_format_is_malformed_though_its_mac_is_right(payload: bytes):
    found = read_reports([seal_mac0(DEVICE, KEY, payload, REPORT_LEN_MAX)], KEYS)[0]
    assert found.fault == MALFORMED
    assert found.detail


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes):
    assert fault(data) == MALFORMED


numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
anything = numbers | st.booleans() | st.none() | st.text(max_size=3) | st.binary(max_size=3)
names = st.sampled_from(["t", "cpu/load", "", "-x", "a b", "x" * 64, "x" * 65, "é", 5])
units = st.sampled_from(["Cel", "%", "", "furlong", "KiB", "x" * 17, 7])
records = st.fixed_dictionaries(
    {},
    optional={
        NAME: names,
        UNIT: units,
        VALUE: anything,
        TIME: anything,
        TEXT: anything,
        BOOL: anything,
        SUM: anything,
        BASE_NAME: names,
        BASE_UNIT: units,
        BASE_VALUE: anything,
        9: anything,
    },
)
plain = st.fixed_dictionaries({NAME: names, VALUE: numbers}, optional={UNIT: units, TIME: anything})


def whole(pack: Any) -> int | None:
    """What RFC 8428 and the unit rule say, the slow way."""
    try:
        resolved = resolve_pack(pack)
    except DecodeError:
        return None
    return len(resolved) if all(is_registered(record.unit) for record in resolved) else None


@given(st.lists(plain | records | st.none(), max_size=5) | anything)
def test_the_fast_count_is_the_whole_count_or_none(pack: Any):
    try:
        counted = plain_samples(pack)
    except TypeError:
        counted = 0
    assert not counted or counted == whole(pack)


@given(
    st.lists(
        st.fixed_dictionaries({NAME: st.just("t"), UNIT: st.just("Cel"), VALUE: numbers}),
        min_size=1,
        max_size=5,
    )
)
def test_what_boards_send_is_counted_the_fast_way(pack: Any):
    pack = [dict(sorted(record.items())) for record in pack]  # as the encoder has them
    assert plain_samples(pack) == count_samples(pack) == len(pack)


@pytest.mark.parametrize("label", [1.0, True])
def test_a_label_that_only_equals_an_integer_is_none(label: object):
    assert plain_samples([{0: "t", label: "Cel", 2: 1}]) == 0
    assert plain_samples([{0: "t", label: "Cel", 2: 1, 6: 1}]) == 0


usages = st.builds(
    Usage, *[st.integers(0, 2**53 - 1)] * 4, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9)
)
good_packs = st.lists(
    st.fixed_dictionaries(
        {NAME: st.sampled_from(["t", "cpu/load"]), VALUE: numbers},
        optional={UNIT: st.just("%"), TIME: numbers},
    ),
    min_size=1,
    max_size=12,
)
uint32s = st.integers(0, 2**32 - 1)
times = st.none() | st.integers(0, 2**53 - 1)


def any_report(seqs: st.SearchStrategy[int], previous_ends: st.SearchStrategy[int | None]) -> Any:
    rest = (good_packs, st.none() | usages, previous_ends, st.none() | uint32s)
    return st.builds(Report, uint32s, seqs, st.integers(0, 2**53 - 1), times, *rest)


reports = any_report(st.just(0), st.none() | uint32s) | any_report(uint32s, st.none())


@given(reports)
def test_good_reports_read_the_same_both_ways(report: Report):
    envelope = seal_report(DEVICE, KEY, report)
    fast, slow = read_reports([envelope], KEYS)[0], read_whole(0, envelope, KEYS)
    for read in (fast, slow):
        if read.usage is not None:
            usage = read.usage
            read.usage = tuple(getattr(usage, name) for name in sorted(Usage.__slots__))  # type: ignore[assignment]
    assert fast == slow
    assert fast.fault == ACCEPTED


payloads = st.recursive(
    anything | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(0, 9) | st.booleans() | st.floats(0, 9), inner, max_size=8)
    ),
    max_leaves=20,
)
shaped = st.fixed_dictionaries(
    {
        1: st.integers(-1, 2**32) | anything,
        2: st.integers(-1, 2**32) | anything,
        3: st.integers(-1, 2**53) | anything,
    },
    optional={
        4: st.integers(-1, 2**53) | anything,
        5: st.lists(plain | records, max_size=4) | payloads,
        6: st.dictionaries(
            st.integers(0, 7) | st.just(1.0) | st.just(True), st.integers(-1, 2**53), max_size=7
        )
        | payloads,
        7: st.integers(-1, 2**32) | anything,
        8: st.integers(-1, 2**32) | anything,
        9: anything,
    },
)


def agree(payload: bytes) -> None:
    """With the MAC right, both ways say the same of any payload."""
    envelope = seal_mac0(DEVICE, KEY, payload, REPORT_LEN_MAX)
    fast, slow = read_reports([envelope], KEYS)[0], read_whole(0, envelope, KEYS)
    assert (fast.fault, fast.detail, fast.boot, fast.seq, fast.samples) == (
        slow.fault,
        slow.detail,
        slow.boot,
        slow.seq,
        slow.samples,
    )


@pytest.mark.threat(19)
@given(shaped | payloads, st.binary(max_size=30))
def test_any_payload_reads_the_same_both_ways(value: Any, after: bytes):
    payload = cbor2.dumps(value)
    agree(payload)
    agree(payload + after)
    agree(payload[:-1])


@pytest.mark.threat(19)
@given(st.data())
def test_every_cut_and_every_tag_reads_the_same_both_ways(data: st.DataObject):
    good = encode_report(Report(1, 0, 3, 4, GOOD * 3, Usage(1, 2, 3, 4), 5, 6))
    place = data.draw(st.integers(0, len(good)))
    tag = data.draw(
        st.sampled_from([0xC0, 0xC2, 0xC4, 0xD81C, 0xD9D9F7, 0xD90100, 0x9F, 0xBF, 0xFF, 0xF6, 0xF97E00])
    )
    put = tag.to_bytes((tag.bit_length() + 7) // 8, "big")
    agree(good[:place] + put + good[place:])
    agree(good[:place] + data.draw(st.binary(max_size=3)) + good[place + 1 :])


@given(st.integers(0, 400), st.data())
def test_an_envelope_that_was_touched_reads_the_same_both_ways(length: int, data: st.DataObject):
    envelope = bytearray(
        seal_report(DEVICE, KEY, Report(1, 2, 3, pack=[{NAME: "t", TEXT: "x" * (length % 257)}, *GOOD]))
    )
    envelope[data.draw(st.integers(0, len(envelope) - 1))] = data.draw(st.integers(0, 255))
    fast, slow = (
        read_reports([bytes(envelope)], KEYS)[0],
        read_whole(0, bytes(envelope), KEYS),
    )
    assert (fast.fault, fast.detail, fast.device_id) == (slow.fault, slow.detail, slow.device_id)


def test_a_full_pack_and_one_more():
    for count in (count_samples, plain_samples):
        assert count(GOOD * 64) == 64
    assert plain_samples(GOOD * 65) == 0
    with pytest.raises(DecodeError):
        count_samples(GOOD * 65)


def test_series_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pack_module, "SERIES_REMEMBERED_MAX", 5)
    pack_module._series.clear()
    for number in range(40):
        assert plain_samples([{NAME: f"n{number}", UNIT: "m", VALUE: 1}]) == 1
        assert len(pack_module._series) <= 5


@given(st.binary(max_size=64), st.binary(max_size=300))
def test_the_prepared_mac_is_hmac_sha256(key: bytes, message: bytes):
    tag = hmac.digest(key, message, "sha256")
    prepared = MacKey(key)
    assert prepared.valid(message, tag)
    assert prepared.valid(message, tag)
    assert not prepared.valid(message + b"x", tag)
    assert not prepared.valid(message, tag[:-1])


def test_a_long_key_is_refused():
    with pytest.raises(ValueError, match="64 bytes"):
        MacKey(bytes(65))
