"""TelemetryQuery: bounds, checked before any store sees it."""

from typing import Any

import pytest

from surge_backend.telemetry.points import PointError
from surge_backend.telemetry.store import (
    QUERY_LIMIT_MAX,
    QUERY_WINDOWS_MAX,
    TIME_MAX_MS,
    TIME_MIN_MS,
    QueryError,
    TelemetryQuery,
)

GOOD: dict[str, Any] = {
    "device_id": "dabcdefghijklmno2",
    "from_ms": 1_700_000_000_000,
    "to_ms": 1_700_000_001_000,
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"from_ms": TIME_MIN_MS, "to_ms": TIME_MAX_MS},
        {"limit": QUERY_LIMIT_MAX},
        {"name": "a"},
        {"window_ms": 1, "aggregate": "mean"},
        {"to_ms": 1_700_000_000_000 + QUERY_WINDOWS_MAX - 1, "window_ms": 1, "aggregate": "last"},
    ],
)
def test_a_good_query(change: dict[str, Any]) -> None:
    TelemetryQuery(**GOOD | change)


@pytest.mark.parametrize(
    "change",
    [
        {"from_ms": TIME_MIN_MS - 1},
        {"to_ms": TIME_MAX_MS + 1},
        {"to_ms": GOOD["from_ms"]},
        {"from_ms": 1.5},
        {"limit": 0},
        {"limit": QUERY_LIMIT_MAX + 1},
        {"limit": True},
        {"window_ms": 10},
        {"aggregate": "mean"},
        {"window_ms": 0, "aggregate": "mean"},
        {"window_ms": "1s", "aggregate": "mean"},
        {"window_ms": 10, "aggregate": "mean(value)); DROP"},
        {"to_ms": 1_700_000_000_000 + QUERY_WINDOWS_MAX, "window_ms": 1, "aggregate": "last"},
    ],
)
def test_a_bad_query_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(QueryError):
        TelemetryQuery(**GOOD | change)


@pytest.mark.threat(20)
@pytest.mark.parametrize("change", [{"device_id": "x' OR 1=1"}, {"name": "a' OR 'a'='a"}, {"name": ""}])
def test_row_20_ids_and_names_come_from_their_alphabets(change: dict[str, Any]) -> None:
    with pytest.raises(PointError):
        TelemetryQuery(**GOOD | change)
