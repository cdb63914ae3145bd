"""InfluxDB 1.x (1.6 to 1.12) as the telemetry store: `/write` with line protocol, `/query` with InfluxQL.

Place in the flow: behind the port in store.py, for a site that runs InfluxDB 1.x, or InfluxDB 3 through the
same calls.

Keeps: nanoseconds, numbers as 64-bit floats, truth values, texts. InfluxDB syncs its write-ahead log before
it answers (`wal-fsync-delay = "0s"`, its default), so a write is durable when it returns. It refuses points
outside the database's retention policy and past `max-values-per-tag`: these come back as StoreRejected.

Does not: make users or retention policies. It makes the database when ``create_database`` is set.

Rules it keeps: see store.py. A request is halved until the points that the server refuses stand alone
(isolate.py).
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from surge_backend.telemetry import influxql
from surge_backend.telemetry.http_client import StoreHttpClient
from surge_backend.telemetry.http_errors import Redactor, RequestRefused
from surge_backend.telemetry.influxql import Statement
from surge_backend.telemetry.isolate import write_isolating
from surge_backend.telemetry.line_protocol import encode_points
from surge_backend.telemetry.points import Point, last_of_each
from surge_backend.telemetry.store import (
    Sample,
    StoreCapabilities,
    StoreError,
    StoreHealth,
    StoreQueryFailed,
    StoreRejected,
    StoreUnavailable,
    TelemetryQuery,
)

TIMEOUT_S_DEFAULT: Final = 10.0
POINTS_PER_REQUEST_DEFAULT: Final = 5_000  # about 500 kB of line protocol, what InfluxData advises
_GZIP_LEVEL: Final = 1  # line protocol shrinks tenfold at the cheapest level


class InfluxqlReader:
    """The port's reads through `/query`: shared by the 1.x store, and the 2.x store in its InfluxQL
    dialect."""

    def __init__(
        self,
        client: StoreHttpClient,
        database: str,
        *,
        retention_policy: str = "",
        on_missing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._client = client
        self._database = database
        self._retention_policy = retention_policy
        self._on_missing = on_missing

    async def query(self, query: TelemetryQuery) -> list[Sample]:
        rows = await self.rows(influxql.samples_statement(query))
        samples = influxql.samples_of(rows, query.device_id, query.limit)
        if query.aggregate is None and len(samples) == query.limit:
            # Of samples at the same time, the server's limit takes any; the port takes the first by name and
            # unit.
            last_ns = samples[-1].time_ns
            rows = await self.rows(influxql.moment_statement(query, last_ns))
            samples = [sample for sample in samples if sample.time_ns < last_ns]
            samples += influxql.samples_of(rows, query.device_id, query.limit - len(samples))
        return samples

    async def latest(self, device_id: str) -> list[Sample]:
        return influxql.latest_of(await self.rows(influxql.latest_statement(device_id)), device_id)

    async def count(self) -> int:
        return influxql.count_of(await self.rows(influxql.COUNT))

    async def health(self) -> StoreHealth:
        """Asks for a point, which tries the address, the credentials and the database at once."""
        try:
            await self.rows(influxql.ANY)
        except StoreError as error:
            return StoreHealth(ok=False, detail=str(error))
        return StoreHealth(ok=True, detail=f"answers queries on {self._database}")

    async def rows(self, statement: Statement) -> list[influxql.Row]:
        """The answer to a statement; a database that is missing is made first, where that is allowed."""
        try:
            return await self.run(statement)
        except influxql.DatabaseMissing:
            if self._on_missing is None:
                raise
            await self._on_missing()
            return await self.run(statement)

    async def run(self, statement: Statement) -> list[influxql.Row]:
        """The answer to a statement."""
        try:
            body = await self._client.request(
                "POST",
                "/query",
                data=statement.form(self._database, self._retention_policy),
                headers={"Accept": "application/json"},  # InfluxDB 2 answers CSV otherwise
            )
        except RequestRefused as error:
            raise StoreQueryFailed(error.reason) from error
        return influxql.parse_rows(body)


class Influx1Store:
    """The port over InfluxDB 1.x. Credentials: ``user`` and ``password``, or ``token`` (sent as
    `Authorization: Token`)."""

    capabilities = StoreCapabilities()

    def __init__(
        self,
        url: str,
        database: str,
        *,
        user: str = "",
        password: str = "",
        token: str = "",
        retention_policy: str = "",
        create_database: bool = True,
        timeout_s: float = TIMEOUT_S_DEFAULT,
        points_per_request_max: int = POINTS_PER_REQUEST_DEFAULT,
        ca_file: str = "",
    ) -> None:
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = (
            {"Authorization": f"Token {token}"}
            if token
            else {"Authorization": f"Basic {basic}"}
            if user
            else {}
        )
        self._client = StoreHttpClient(
            url,
            headers=headers,
            timeout_s=timeout_s,
            redactor=Redactor.of((password, token, basic)),
            ca_file=ca_file,
        )
        self._reader = InfluxqlReader(
            self._client,
            database,
            retention_policy=retention_policy,
            on_missing=self._make_database if create_database else None,
        )
        self._database = database
        self._write_params = {"db": database, "precision": "ns"} | (
            {"rp": retention_policy} if retention_policy else {}
        )
        self._create_database = create_database
        self._points_per_request_max = points_per_request_max

    async def open(self) -> None:
        """Nothing yet: the server may start after us."""

    async def close(self) -> None:
        await self._client.close()

    async def write(self, points: Sequence[Point]) -> None:
        rejected = await write_isolating(last_of_each(points), self._points_per_request_max, self._send)
        if rejected:
            raise StoreRejected(rejected)

    async def query(self, query: TelemetryQuery) -> list[Sample]:
        return await self._reader.query(query)

    async def latest(self, device_id: str) -> list[Sample]:
        return await self._reader.latest(device_id)

    async def count(self) -> int:
        return await self._reader.count()

    async def drop_all(self) -> None:
        await self._reader.rows(influxql.DROP)

    async def health(self) -> StoreHealth:
        return await self._reader.health()

    async def _send(self, points: Sequence[Point]) -> None:
        body = gzip.compress(encode_points(points), _GZIP_LEVEL)
        try:
            await self._post(body)
        except StoreUnavailable as error:
            if not (self._create_database and "database not found" in error.what):
                raise
            await self._make_database()
            await self._post(body)

    async def _post(self, body: bytes) -> None:
        await self._client.request(
            "POST", "/write", params=self._write_params, content=body, headers={"Content-Encoding": "gzip"}
        )

    async def _make_database(self) -> None:
        # An identifier can't be bound; in double quotes, InfluxQL reads JSON's escapes of quotes and
        # backslashes.
        identifier = json.dumps(self._database, ensure_ascii=False)
        await self._reader.run(Statement(f"CREATE DATABASE {identifier}"))
