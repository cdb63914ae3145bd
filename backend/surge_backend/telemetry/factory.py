"""Makes the telemetry store that the settings name.

Place in the flow: called once by the composition root. The settings' loader hands in secret values, read from
their files.

Does not: open the store, or read files or the environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

from surge_backend.telemetry.store import TelemetryStore

Kind = Literal["duckdb", "influx1", "influx2"]
Dialect = Literal["influxql", "prometheus"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DATABASE_DEFAULT: Final = "surge"
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)


class TelemetrySettingsError(ValueError):
    """A telemetry setting that can't work; the message names it and what to set."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Which store, where, and its limits. ``password`` and ``token`` are the secrets themselves, and never
    shown."""

    kind: Kind = "duckdb"
    path: str = "telemetry.duckdb"  # duckdb
    url: str = ""  # influx1, influx2
    database: str = ""  # influx1: "" is "surge"; influx2: what the bucket is mapped to, "" is its own name
    retention_policy: str = ""  # influx1; "" is the database's default
    create_database: bool = True  # influx1
    org: str = ""  # influx2
    bucket: str = ""  # influx2
    query: Dialect = "influxql"  # influx2: what the server is asked in
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    ca_file: str = ""  # a private authority's certificates; "" trusts the usual ones
    timeout_s: float = 10.0  # a request to a server; past it the write is tried again
    query_timeout_s: float = 30.0  # duckdb; past it the query is refused
    points_per_request_max: int = 5_000  # influx1, influx2; a write with more is several requests
    durability_lag_ms: int = 10_000  # influx2 with prometheus; see influx2_store
    memory_max_mb: int = 512  # duckdb; past it DuckDB spills beside its file
    threads: int = 2  # duckdb

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TelemetrySettingsError(
                f"telemetry: kind {self.kind!r} is unknown; set one of {', '.join(KINDS)}"
            )
        if self.query not in DIALECTS:
            known = ", ".join(DIALECTS)
            raise TelemetrySettingsError(f"telemetry: query {self.query!r} is unknown; set one of {known}")
        for name in ("timeout_s", "query_timeout_s", "points_per_request_max", "memory_max_mb", "threads"):
            if getattr(self, name) <= 0:
                raise TelemetrySettingsError(f"telemetry: {name} must be above 0")
        if self.durability_lag_ms < 0:
            raise TelemetrySettingsError("telemetry: durability_lag_ms must be 0 or more")
        if self.kind == "duckdb":
            self._need("path")
        else:
            self._check_server()

    def _check_server(self) -> None:
        self._need("url")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise TelemetrySettingsError("telemetry: url must look like http://host:8086")
        if parts.username is not None or parts.password is not None:
            # Not repeated in the message: it holds a password.
            raise TelemetrySettingsError(
                "telemetry: url holds credentials; set user and password, or token, instead"
            )
        if self.token and self.user:
            raise TelemetrySettingsError("telemetry: set token, or user and password, not both")
        if self.kind == "influx2" and self.query == "influxql":
            self._need("org")
            self._need("bucket")

    def _need(self, name: str) -> None:
        if not getattr(self, name):
            raise TelemetrySettingsError(f"telemetry: {name} must be set for kind {self.kind!r}")


def make_store(settings: TelemetrySettings) -> TelemetryStore:
    """The store, not yet open."""
    # Only the store in use is imported: DuckDB and influxdb-client take a while to load.
    if settings.kind == "duckdb":
        from surge_backend.telemetry.duckdb_store import DuckDbStore

        return DuckDbStore(
            Path(settings.path),
            query_timeout_s=settings.query_timeout_s,
            memory_max_mb=settings.memory_max_mb,
            threads=settings.threads,
        )
    if settings.kind == "influx1":
        from surge_backend.telemetry.influx1_store import Influx1Store

        return Influx1Store(
            settings.url,
            settings.database or DATABASE_DEFAULT,
            user=settings.user,
            password=settings.password,
            token=settings.token,
            retention_policy=settings.retention_policy,
            create_database=settings.create_database,
            timeout_s=settings.timeout_s,
            points_per_request_max=settings.points_per_request_max,
            ca_file=settings.ca_file,
        )
    from surge_backend.telemetry.influx2_store import Influx2Store

    return Influx2Store(
        settings.url,
        # VictoriaMetrics has neither, and takes any; the client wants a text.
        org=settings.org or "surge",
        bucket=settings.bucket or "surge",
        token=settings.token,
        user=settings.user,
        password=settings.password,
        database=settings.database,
        dialect=settings.query,
        timeout_s=settings.timeout_s,
        points_per_request_max=settings.points_per_request_max,
        durability_lag_ms=settings.durability_lag_ms,
        ca_file=settings.ca_file,
    )


async def open_store(settings: TelemetrySettings) -> TelemetryStore:
    """The store, open. Raises StoreUnavailable where that shows at once (a DuckDB file that can't be
    opened)."""
    store = make_store(settings)
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store
