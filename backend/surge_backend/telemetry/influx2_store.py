"""Stores that take InfluxDB 2's `/api/v2/write`: InfluxDB 2 and Cloud, InfluxDB 3 Core, VictoriaMetrics.

Place in the flow: behind the port in store.py. Writes go through influxdb-client as ready lines of line
protocol, gzipped, in one thread (its client blocks); reads go by the dialect that the server speaks:

* ``influxql`` (InfluxDB 2, 3): `/query` with the token. On InfluxDB 2 the bucket needs a mapping to the
  database's name (`influx v1 dbrp create --db NAME --rp autogen --bucket-id ID`); newer ones map a bucket's
  own name by themselves. Keeps nanoseconds, numbers, truth values, texts.
* ``prometheus`` (VictoriaMetrics): `/api/v1/export`. Keeps numbers and truth values, in milliseconds; points
  of one series within a millisecond become one, the greatest value. Refuses texts (StoreRejected): the server
  would store 0. Floats are packed with a common exponent per block, so one absurd value (1e300) wipes out its
  small neighbours of the same series. Points older than `-retentionPeriod` (1 month by default!) or 2 days
  ahead are dropped in silence: set it as long as telemetry shall last. A crash of the server loses what it
  hasn't flushed, a few seconds: ``durability_lag_ms``.

Does not: make buckets, organisations or tokens; retry (the projector does, the client's own retries are off).

Rules it keeps: see store.py.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final, Literal

import urllib3.exceptions
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from surge_backend.telemetry.http_client import StoreHttpClient
from surge_backend.telemetry.http_errors import Redactor, RequestRefused, failure_of
from surge_backend.telemetry.influx1_store import (
    POINTS_PER_REQUEST_DEFAULT,
    TIMEOUT_S_DEFAULT,
    InfluxqlReader,
)
from surge_backend.telemetry.isolate import write_isolating
from surge_backend.telemetry.line_protocol import MEASUREMENT, encode_points
from surge_backend.telemetry.points import Point, last_of_each
from surge_backend.telemetry.prometheus_reader import PrometheusReader
from surge_backend.telemetry.store import (
    RejectedPoint,
    Sample,
    StoreCapabilities,
    StoreHealth,
    StoreQueryFailed,
    StoreRejected,
    StoreUnavailable,
    TelemetryQuery,
)

Dialect = Literal["influxql", "prometheus"]

# VictoriaMetrics flushes within 5 s; twice that leaves room for a slow disk.
DURABILITY_LAG_MS_DEFAULT: Final = 10_000

_VICTORIA_UNLIKE: Final = (
    "points of one series within a millisecond become one, the greatest value",
    "a value and its neighbours share an exponent: keep about 15 digits of the greatest",
    "points outside -retentionPeriod are dropped in silence",
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME: Final = datetime(2262, 1, 1, tzinfo=UTC)  # the last whole year that fits 64 bits of nanoseconds


class Influx2Store:
    """The port over `/api/v2/write`. Credentials: ``token``, or ``user`` and ``password`` (HTTP basic)."""

    def __init__(
        self,
        url: str,
        *,
        org: str,
        bucket: str,
        token: str = "",
        user: str = "",
        password: str = "",
        database: str = "",
        dialect: Dialect = "influxql",
        timeout_s: float = TIMEOUT_S_DEFAULT,
        points_per_request_max: int = POINTS_PER_REQUEST_DEFAULT,
        durability_lag_ms: int = DURABILITY_LAG_MS_DEFAULT,
        ca_file: str = "",
    ) -> None:
        self._url = url.rstrip("/")
        self._org, self._bucket = org, bucket
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._redactor = Redactor.of((token, password, basic))
        headers = (
            {"Authorization": f"Token {token}"}
            if token
            else {"Authorization": f"Basic {basic}"}
            if user
            else {}
        )
        self._http = StoreHttpClient(
            url, headers=headers, timeout_s=timeout_s, redactor=self._redactor, ca_file=ca_file
        )
        self._influx: Any = InfluxDBClient(
            url=self._url,
            # The client wants a token; it sends this one as "Token …", or as HTTP basic.
            token=token or f"{user}:{password}",
            auth_basic=not token and bool(user),
            org=org,
            timeout=max(1, round(timeout_s * 1000)),
            enable_gzip=True,
            retries=False,
            ssl_ca_cert=ca_file or None,
        )
        self._writer: Any = self._influx.write_api(write_options=SYNCHRONOUS)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="telemetry-influx2")
        self._points_per_request_max = points_per_request_max
        self._prometheus = PrometheusReader(self._http) if dialect == "prometheus" else None
        self._reader = self._prometheus or InfluxqlReader(self._http, database or bucket)
        self._capabilities = StoreCapabilities()
        if self._prometheus:
            self._capabilities = StoreCapabilities(
                text=False,
                time_unit_ns=1_000_000,
                durability_lag_ms=durability_lag_ms,
                unlike=_VICTORIA_UNLIKE,
            )

    @property
    def capabilities(self) -> StoreCapabilities:
        return self._capabilities

    async def open(self) -> None:
        """Nothing yet: the server may start after us."""

    async def close(self) -> None:
        await self._http.close()
        await asyncio.to_thread(self._close_influx)

    async def write(self, points: Sequence[Point]) -> None:
        rejected: list[RejectedPoint] = []
        if not self._capabilities.text:
            reason = "this store keeps no texts (set another telemetry store to have them)"
            rejected = [RejectedPoint(point, reason) for point in points if isinstance(point.value, str)]
            points = [point for point in points if not isinstance(point.value, str)]
        rejected += await write_isolating(last_of_each(points), self._points_per_request_max, self._send)
        if self._prometheus and points:
            await self._prometheus.flush()
        if rejected:
            raise StoreRejected(rejected)

    async def query(self, query: TelemetryQuery) -> list[Sample]:
        return await self._reader.query(query)

    async def latest(self, device_id: str) -> list[Sample]:
        return await self._reader.latest(device_id)

    async def count(self) -> int:
        return await self._reader.count()

    async def drop_all(self) -> None:
        if self._prometheus:
            await self._prometheus.drop_all()
            return
        try:
            await self._in_thread(self._delete)
        except RequestRefused as error:
            raise StoreQueryFailed(error.reason) from error

    async def health(self) -> StoreHealth:
        return await self._reader.health()

    async def _send(self, points: Sequence[Point]) -> None:
        await self._in_thread(self._write_lines, encode_points(points))

    def _write_lines(self, lines: bytes) -> None:
        self._writer.write(bucket=self._bucket, org=self._org, record=lines, write_precision="ns")

    def _delete(self) -> None:
        predicate = f'_measurement="{MEASUREMENT}"'
        self._influx.delete_api().delete(_EPOCH, _END_OF_TIME, predicate, bucket=self._bucket, org=self._org)

    def _close_influx(self) -> None:
        self._thread.shutdown(wait=True)
        self._writer.close()
        self._influx.close()

    async def _in_thread(self, work: Any, *arguments: object) -> None:
        where = f"telemetry store {self._url}"
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except ApiException as error:
            body = (
                error.body.decode(errors="replace")
                if isinstance(error.body, bytes)
                else str(error.body or "")
            )
            retry_after = error.headers.get("Retry-After") if error.headers else None
            # `from None`: the client's own exception prints the request's headers in some versions.
            raise failure_of(error.status or 503, body, retry_after, where, self._redactor) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreUnavailable(
                f"{where} can't be reached: {self._redactor.clean(str(error)) or type(error).__name__}",
                "check that the server runs at this address; writing goes on by itself",
            ) from error
