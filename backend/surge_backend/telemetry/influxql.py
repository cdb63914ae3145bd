"""InfluxQL for the port's reads: the statements, their bound parameters, and their answers. Pure.

Place in the flow: between the port's queries and a `/query` endpoint (InfluxDB 1.x; 2.x and 3 in
compatibility).

Does not: send anything.

Rules it keeps: device, name and times are bound parameters (`params`), which 1.x and 2.x take in WHERE. What
can't be bound there, a limit and a window's width, are integers that TelemetryQuery has checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from surge_backend.telemetry.line_protocol import MEASUREMENT, decode_text, decode_unit
from surge_backend.telemetry.points import NS_PER_MS, Value
from surge_backend.telemetry.store import (
    LATEST_MAX,
    Aggregate,
    Sample,
    StoreError,
    StoreQueryFailed,
    StoreUnavailable,
    TelemetryQuery,
    sample_order,
)

# A series' tags, and a row's values by column.
Row = tuple[Mapping[str, str], Mapping[str, Any]]

_FIELDS: Final = "value, value_bool, value_text, flags"
_FUNCTIONS: Final[dict[Aggregate, str]] = {
    "mean": "mean(value)",
    "min": "min(value)",
    "max": "max(value)",
    "count": "count(value)",
    "last": "last(value)",
}


class DatabaseMissing(StoreUnavailable):
    """The server doesn't know the database, or the bucket under that name."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One InfluxQL statement and what its ``$names`` stand for."""

    text: str
    params: Mapping[str, str | int] = field(default_factory=dict)

    def form(self, database: str, retention_policy: str = "") -> dict[str, str]:
        """The fields of the request's form; times come back as integers of nanoseconds."""
        form = {"db": database, "epoch": "ns", "q": self.text}
        if retention_policy:
            form["rp"] = retention_policy
        if self.params:
            form["params"] = json.dumps(dict(self.params))
        return form


def samples_statement(query: TelemetryQuery) -> Statement:
    """The statement that answers ``query``; `parse_samples` reads its answer."""
    where = "device = $device AND time >= $from_ns AND time < $to_ns"
    params: dict[str, str | int] = {
        "device": query.device_id,
        "from_ns": query.from_ms * NS_PER_MS,
        "to_ns": query.to_ms * NS_PER_MS,
    }
    if query.name is not None:
        where += ' AND "name" = $name'
        params["name"] = query.name
    if query.aggregate is None or query.window_ms is None:
        select, group = f'{_FIELDS}, "name", unit', ""
    else:
        select = f"{_FUNCTIONS[query.aggregate]} AS value"
        group = f' GROUP BY time({int(query.window_ms)}ms), "name", unit fill(none)'
    text = (
        f"SELECT {select} FROM {MEASUREMENT} WHERE {where}{group} ORDER BY time ASC LIMIT {int(query.limit)}"  # noqa: S608
    )
    return Statement(text, params)


def moment_statement(query: TelemetryQuery, time_ns: int) -> Statement:
    """Every sample of ``query`` at exactly ``time_ns``, without a limit: at most one for each of the device's
    series."""
    where = "device = $device AND time >= $time_ns AND time <= $time_ns"
    params: dict[str, str | int] = {"device": query.device_id, "time_ns": time_ns}
    if query.name is not None:
        where += ' AND "name" = $name'
        params["name"] = query.name
    return Statement(f'SELECT {_FIELDS}, "name", unit FROM {MEASUREMENT} WHERE {where}', params)  # noqa: S608


def latest_statement(device_id: str) -> Statement:
    """The newest point of each series of the device."""
    text = (
        f"SELECT {_FIELDS} FROM {MEASUREMENT} WHERE device = $device "  # noqa: S608
        f'GROUP BY "name", unit ORDER BY time DESC LIMIT 1 SLIMIT {LATEST_MAX}'
    )
    return Statement(text, {"device": device_id})


COUNT: Final = Statement(f"SELECT count(flags) FROM {MEASUREMENT}")  # noqa: S608
DROP: Final = Statement(f"DROP MEASUREMENT {MEASUREMENT}")
ANY: Final = Statement(f"SELECT flags FROM {MEASUREMENT} LIMIT 1")  # noqa: S608


def samples_of(rows: Iterable[Row], device_id: str, limit: int) -> list[Sample]:
    """The answer's samples in the port's order. A LIMIT counts per series there, so it is applied again
    here."""
    samples = []
    for tags, row in rows:
        value = _value(row)
        if value is None:
            continue  # a point that someone else wrote, without any of our fields
        name, unit = row.get("name", tags.get("name")), row.get("unit", tags.get("unit"))
        samples.append(
            Sample(
                device_id,
                str(name or ""),
                decode_unit(unit),
                int(row["time"]),
                value,
                int(row.get("flags") or 0),
            )
        )
    samples.sort(key=sample_order)
    return samples[:limit]


def latest_of(rows: Iterable[Row], device_id: str) -> list[Sample]:
    """The answer to `latest_statement`, ordered by name and unit."""
    return sorted(samples_of(rows, device_id, LATEST_MAX), key=lambda sample: (sample.name, sample.unit))


def count_of(rows: Iterable[Row]) -> int:
    """The answer to COUNT; no row is no point."""
    return sum(int(row["count"]) for _, row in rows)


def _value(row: Mapping[str, Any]) -> Value | None:
    text, truth, number = row.get("value_text"), row.get("value_bool"), row.get("value")
    if text is not None:
        return decode_text(str(text))
    if truth is not None:
        return bool(truth)
    if number is None:
        return None
    return float(number)


def parse_rows(body: bytes) -> list[Row]:
    """The answer's rows. Raises what an answer of status 200 may hold: DatabaseMissing, StoreUnavailable,
    StoreQueryFailed."""
    try:
        answer = json.loads(body)
        rows: list[Row] = []
        for result in answer["results"]:
            if "error" in result:
                raise _failure(str(result["error"]))
            for series in result.get("series", ()):
                columns, tags = series["columns"], series.get("tags", {})
                rows += [(tags, dict(zip(columns, row, strict=True))) for row in series.get("values", ())]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreUnavailable(
            "the telemetry store's answer to a query is not InfluxQL's JSON",
            "check that the URL is an InfluxDB, or set the query dialect that the server speaks",
        ) from error
    return rows


def _failure(reason: str) -> StoreError:
    if "not found" in reason and ("database" in reason or "retention policy" in reason):
        return DatabaseMissing(
            f"telemetry store: {reason}", "create the database, or the bucket's mapping (DBRP)"
        )
    if "error parsing query" in reason or "max-select" in reason:
        return StoreQueryFailed(f"telemetry store: {reason}; ask for a shorter range")
    return StoreUnavailable(f"telemetry store: {reason}", "see the store's log")
