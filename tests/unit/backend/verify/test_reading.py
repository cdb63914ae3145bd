"""Reading reports: the order of faults, and counting samples the fast way and the whole way alike."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surge_backend.verify import pack as pack_module
from surge_backend.verify.pack import count_samples
from surge_backend.verify.reading import named_devices, read_reports
from surge_wire.cose import seal_mac0
from surge_wire.errors import DecodeError
from surge_wire.limits import REPORT_LEN_MAX
from surge_wire.report import Report, seal_report
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


def sealed(pack: Any, key: bytes = KEY) -> bytes:
    return seal_report(DEVICE, key, Report(1, 2, 3, pack=pack))


def fault(envelope: bytes, keys: dict[str, bytes] | None = None) -> int:
    return read_reports([envelope], {DEVICE: KEY} if keys is None else keys)[0].fault


GOOD = [make_record("t", "Cel", 20)]


def test_a_good_report_is_read_whole():
    envelope = sealed(GOOD)
    found = read_reports([b"x", envelope], {DEVICE: KEY})[1]
    assert (found.position, found.fault, found.device_id, found.samples, found.length) == (
        1,
        ACCEPTED,
        DEVICE,
        1,
        len(envelope),
    )
    assert found.report is not None
    assert (found.report.boot, found.report.seq) == (1, 2)
    assert named_devices([b"x", envelope]) == {DEVICE}


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
    found = read_reports([seal_mac0(DEVICE, KEY, payload, REPORT_LEN_MAX)], {DEVICE: KEY})[0]
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
def test_the_fast_count_is_the_whole_count(pack: Any):
    try:
        counted: int | None = count_samples(pack)
    except DecodeError:
        counted = None
    assert counted == whole(pack)


def test_a_full_pack_and_one_more():
    assert count_samples(GOOD * 64) == 64
    with pytest.raises(DecodeError):
        count_samples(GOOD * 65)


def test_names_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pack_module, "NAMES_REMEMBERED_MAX", 5)
    for number in range(40):
        assert count_samples([{NAME: f"n{number}", VALUE: 1}]) == 1
        assert len(pack_module._names) <= 5 or number == 0
