"""The port's reads from VictoriaMetrics, which takes line protocol but speaks no InfluxQL.

Place in the flow: the read half of Influx2Store in its Prometheus dialect. A field of line protocol is a
metric there: `telemetry_value`, `telemetry_value_bool`, `telemetry_flags`, with the labels device, name,
unit.

Reads raw samples (`/api/v1/export`) and cuts windows here: the server's own windows end where ours begin, and
its `query_range` fills gaps by its staleness rules, which the port has none of.

Rules it keeps: a selector holds only a device's id and a SenML name, in quotes, both checked when the query
was made, as the endpoint can't bind parameters. At most RAW_SAMPLES_MAX values are read for one query; more
is refused. A retry leaves a second copy of a sample in the server: copies of one series and millisecond are
read as one, the greatest.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final

from surge_backend.telemetry.http_client import StoreHttpClient
from surge_backend.telemetry.http_errors import RequestRefused
from surge_backend.telemetry.line_protocol import MEASUREMENT, decode_unit
from surge_backend.telemetry.points import NS_PER_MS, TIME_MAX_NS, TIME_MIN_NS, check_device_id
from surge_backend.telemetry.store import (
    LATEST_MAX,
    TIME_MAX_MS,
    TIME_MIN_MS,
    Sample,
    StoreError,
    StoreHealth,
    StoreQueryFailed,
    StoreUnavailable,
    TelemetryQuery,
    sample_order,
)
from surge_backend.telemetry.windows import window_samples

RAW_SAMPLES_MAX: Final = 400_000
_ROWS_PER_LINE: Final = 1_000
_VALUE: Final = f"{MEASUREMENT}_value"
_VALUE_BOOL: Final = f"{MEASUREMENT}_value_bool"
_FLAGS: Final = f"{MEASUREMENT}_flags"
_METRICS: Final = f'__name__=~"{_VALUE}|{_VALUE_BOOL}|{_FLAGS}"'
_MS_PER_S: Final = 1000
_ALL_TIME_S: Final = (TIME_MAX_NS - TIME_MIN_NS) // NS_PER_MS // _MS_PER_S
_START: Final = re.compile(
    rb"^(?:vm_app_start_timestamp|process_start_time_seconds) ([0-9.e+]+)$", re.MULTILINE
)

_Series = tuple[str, str]  # name, unit


class PrometheusReader:
    """The port's reads, drop and health on a VictoriaMetrics behind ``client``."""

    def __init__(self, client: StoreHttpClient) -> None:
        self._client = client

    async def query(self, query: TelemetryQuery) -> list[Sample]:
        samples = await self._export(query.device_id, query.name, query.from_ms, query.to_ms)
        if query.window_ms is not None and query.aggregate is not None:
            samples = window_samples(samples, query.window_ms, query.aggregate)
        return samples[: query.limit]

    async def latest(self, device_id: str) -> list[Sample]:
        check_device_id(device_id)
        selector = f"{{{_METRICS},{_device_label(device_id)}}}[{_ALL_TIME_S}s]"
        times = await self._instant(f"tlast_over_time({selector}) keep_metric_names")
        values = await self._instant(f"last_over_time({selector}) keep_metric_names")
        newest: dict[_Series, Sample] = {}
        for (metric, series), value in values.items():
            time_ns = round(times.get((metric, series), 0.0) * _MS_PER_S) * NS_PER_MS
            if metric == _FLAGS or (series in newest and newest[series].time_ns > time_ns):
                continue
            flags = int(values.get((_FLAGS, series), 0))
            kind: float | bool = value != 0 if metric == _VALUE_BOOL else value
            newest[series] = Sample(device_id, *series, time_ns, kind, flags)
        return [newest[series] for series in sorted(newest)][:LATEST_MAX]

    async def count(self) -> int:
        """Reads the time of every point there is."""
        last: dict[tuple[str, ...], int] = {}
        count = 0
        async for metric, _, times in self._lines(
            f"{{__name__={json.dumps(_FLAGS)}}}", TIME_MIN_MS, TIME_MAX_MS
        ):
            series = (metric.get("device", ""), metric.get("name", ""), metric.get("unit", ""))
            for time_ms in times:  # ascending within a series, copies beside each other
                if time_ms > last.get(series, -1):
                    last[series] = time_ms
                    count += 1
        return count

    async def drop_all(self) -> None:
        await self._request(
            "/api/v1/admin/tsdb/delete_series", {"match[]": f'{{__name__=~"{MEASUREMENT}_.*"}}'}
        )

    async def flush(self) -> None:
        """Makes what was written readable now; the server does so by itself within about a second."""
        await self._request("/internal/force_flush", {})

    async def health(self) -> StoreHealth:
        """Asks a query, as /metrics may be open to all, and when the server started, by which a restart
        shows."""
        try:
            await self._request("/api/v1/query", {"query": "1", "time": _seconds(TIME_MIN_MS)})
            start = _START.search(await self._request("/metrics", {}))
        except StoreError as error:
            return StoreHealth(ok=False, detail=str(error))
        return StoreHealth(ok=True, detail="answers", instance=start[1].decode() if start else "")

    async def _export(self, device_id: str, name: str | None, from_ms: int, to_ms: int) -> list[Sample]:
        selector = f"{{{_METRICS},{_device_label(device_id)}"
        selector += f",name={json.dumps(name)}}}" if name is not None else "}"
        values: dict[tuple[_Series, int], float | bool] = {}
        flags: dict[tuple[_Series, int], int] = {}
        read = 0
        async for metric, numbers, times in self._lines(selector, from_ms, to_ms):
            read += len(times)
            if read > RAW_SAMPLES_MAX:
                raise StoreQueryFailed(
                    f"the range holds more than {RAW_SAMPLES_MAX} values; ask for a shorter range"
                )
            series = (metric.get("name", ""), decode_unit(metric.get("unit")))
            kind = metric["__name__"]
            for time_ms, number in zip(times, numbers, strict=True):
                key = (series, time_ms)
                if kind == _FLAGS:
                    flags[key] = max(int(number), flags.get(key, 0))
                else:
                    value = number != 0 if kind == _VALUE_BOOL else float(number)
                    values[key] = max(value, values.get(key, value))
        samples = [
            Sample(device_id, *series, time_ms * NS_PER_MS, value, flags.get((series, time_ms), 0))
            for (series, time_ms), value in values.items()
        ]
        return sorted(samples, key=sample_order)

    async def _lines(
        self, selector: str, from_ms: int, to_ms: int
    ) -> AsyncIterator[tuple[dict[str, str], list[float], list[int]]]:
        """Each line of an export: labels, values, times in milliseconds. The server takes both ends as
        inside."""
        form = {
            "match[]": selector,
            "start": _seconds(from_ms),
            "end": _seconds(to_ms - 1),
            "max_rows_per_line": str(_ROWS_PER_LINE),  # a series with more comes as several lines
        }
        try:
            async for line in self._client.lines("/api/v1/export", data=form):
                if line:
                    row = json.loads(line)
                    yield row["metric"], row["values"], row["timestamps"]
        except RequestRefused as error:
            raise StoreQueryFailed(error.reason) from error
        except (ValueError, KeyError, TypeError) as error:
            raise _not_victoria() from error

    async def _instant(self, expression: str) -> dict[tuple[str, _Series], float]:
        """An instant query's value for each (metric, series)."""
        form = {"query": expression, "time": _seconds(TIME_MAX_MS), "nocache": "1"}
        body = await self._request("/api/v1/query", form)
        found: dict[tuple[str, _Series], float] = {}
        try:
            for row in json.loads(body)["data"]["result"]:
                labels: dict[str, Any] = row["metric"]
                series = (str(labels.get("name", "")), decode_unit(labels.get("unit")))
                found[(str(labels["__name__"]), series)] = float(row["value"][1])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise _not_victoria() from error
        return found

    async def _request(self, path: str, form: dict[str, str]) -> bytes:
        try:
            return await self._client.request("POST", path, data=form)
        except RequestRefused as error:
            raise StoreQueryFailed(error.reason) from error


def _device_label(device_id: str) -> str:
    return f"device={json.dumps(device_id)}"


def _seconds(time_ms: int) -> str:
    return f"{time_ms // _MS_PER_S}.{time_ms % _MS_PER_S:03d}"


def _not_victoria() -> StoreUnavailable:
    return StoreUnavailable(
        "the telemetry store's answer is not VictoriaMetrics' JSON",
        "check the URL, or set the query dialect that the server speaks",
    )
