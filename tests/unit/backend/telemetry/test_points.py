"""Points: what is let in, and the time that retries agree on."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surge_backend.telemetry.points import (
    NS_PER_MS,
    TIME_MAX_NS,
    TIME_MIN_NS,
    Point,
    PointError,
    last_of_each,
    point_time_ns,
)

GOOD: dict[str, Any] = {
    "device_id": "dabcdefghijklmno2",
    "name": "cpu/load",
    "unit": "%",
    "time_ns": 1_700_000_000_000_000_000,
    "value": 1.5,
    "flags": 0,
}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a"},
        {"name": "A-z:0./_9"},
        {"name": "n" * 64},
        {"unit": ""},
        {"unit": "~" * 32},
        {"unit": 'a "b", c=\\'},
        {"time_ns": TIME_MIN_NS},
        {"time_ns": TIME_MAX_NS - 1},
        {"value": 0},
        {"value": -(2**64)},
        {"value": 2**64 - 1},
        {"value": -1.7e308},
        {"value": True},
        {"value": ""},
        {"value": "🌡" * 256},
        {"value": "a\nb\x00"},
        {"flags": 7},
    ],
)
def test_a_good_point_is_made(change: dict[str, Any]) -> None:
    point = Point(**GOOD | change)
    assert point.key == (point.device_id, point.name, point.unit, point.time_ns)


@pytest.mark.threat(20)
@pytest.mark.parametrize(
    "change",
    [
        {"device_id": ""},
        {"device_id": "gabcdefghijklmno2"},
        {"device_id": "dabcdefghijklmno2\n"},
        {"device_id": "dabcdefghijklmno,"},
        {"device_id": "dABCDEFGHIJKLMNO2"},
        {"device_id": b"dabcdefghijklmno2"},
        {"name": ""},
        {"name": "/a"},
        {"name": "n" * 65},
        {"name": "a b"},
        {"name": "a,b"},
        {"name": "a\n"},
        {"name": "é"},
        {"unit": "u" * 33},
        {"unit": "°C"},
        {"unit": "a\nb"},
        {"unit": "a\x00"},
        {"unit": None},
        {"time_ns": TIME_MIN_NS - 1},
        {"time_ns": TIME_MAX_NS},
        {"time_ns": 0},
        {"time_ns": 1.7e18},
        {"time_ns": True},
        {"value": math.nan},
        {"value": math.inf},
        {"value": -math.inf},
        {"value": 2**64},
        {"value": -(2**64) - 1},
        {"value": None},
        {"value": b"bytes"},
        {"value": "x" * 257},
        {"value": "\ud800"},
        {"flags": -1},
        {"flags": 2**31},
        {"flags": True},
    ],
)
def test_row_20_a_bad_field_is_refused_by_name(change: dict[str, Any]) -> None:
    with pytest.raises(PointError) as caught:
        Point(**GOOD | change)
    assert caught.value.field == next(iter(change))
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


uint32 = st.integers(0, 2**32 - 1)


@given(st.integers(0, 2**42), uint32, uint32, st.integers(0, 63))
def test_a_points_time_stays_in_its_millisecond_and_is_the_same_again(
    time_ms: int, boot: int, seq: int, index: int
) -> None:
    time_ns = point_time_ns(time_ms, boot, seq, index)
    assert time_ns // NS_PER_MS == time_ms
    assert time_ns == point_time_ns(time_ms, boot, seq, index)


@pytest.mark.threat(20)
def test_row_20_reports_that_claim_one_millisecond_land_apart() -> None:
    times = {point_time_ns(1_700_000_000_000, boot, seq, 0) for boot in range(1, 5) for seq in range(250)}
    # 1,000 draws from a million: half a collision is expected, more than a few would be a poor mix.
    assert len(times) > 995


def test_the_last_of_each_key_stays() -> None:
    first, second, other = (Point(**GOOD | change) for change in ({}, {"value": 2.5}, {"name": "b"}))
    assert list(last_of_each([first, other, second])) == [second, other]
    assert list(last_of_each([first, other])) == [first, other]
