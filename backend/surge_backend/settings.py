"""The backend's settings: what may be set, its default, its bounds, and what happens at each limit.

Place in the flow: `cli` loads them (TOML file, then `SURGE_BACKEND_<SECTION>_<KEY>`), everything else gets
them as values. `backend.example.toml` shows each setting with its default; a test holds the two together.

Rules kept: sections are frozen; a path is relative to the settings file's folder; secrets are in files of
their own.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from surge_backend.db.engine import BUSY_TIMEOUT_MS
from surge_backend.projection.series import TELEMETRY_SERIES_MAX
from surge_backend.telemetry.factory import DATABASE_DEFAULT, Dialect, Kind, TelemetrySettingsError
from surge_backend.telemetry.factory import TelemetrySettings as StoreSettings
from surge_host.errors import UserError
from surge_host.settings_loader import Secret, load_settings, setting

WORKERS_MAX = 64
ENV_PREFIX = "SURGE_BACKEND"

DATA_DIR_DEFAULT = Path("surge-data")
MASTER_KEY_NAME = "master.key"
LOG_KEY_NAME = "log.key"
ADMIN_FILE_NAME = "admin.token"
DATABASE_NAME = "surge.db"
EMBEDDED_KIND: Kind = "duckdb"  # the telemetry store that is a file of one process
TELEMETRY_ID_NAME = "telemetry.id"
TELEMETRY_NAME = "telemetry.duckdb"


@dataclass(frozen=True)
class ServerSettings:
    """Where and how the API listens."""

    host: str = "127.0.0.1"
    port: int = setting(8080, minimum=0, maximum=65_535, help="0 takes any free port and prints it")
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    allow_plain_http: bool = False
    trusted_proxies: tuple[str, ...] = ()
    connections_max: int = setting(512, minimum=8, maximum=100_000, help="more get 503 at once")
    body_timeout_s: float = setting(30.0, minimum=1, maximum=600, help="a slower body gets 408")
    keep_alive_s: int = setting(30, minimum=1, maximum=600, help="an idle connection is closed then")
    workers: int = setting(
        1,
        minimum=1,
        maximum=WORKERS_MAX,
        help="processes; a limit of one client or one backend is each process's own",
    )
    shutdown_timeout_s: int = setting(
        30, minimum=1, maximum=600, help="requests still running are cut off then"
    )

    @property
    def has_tls(self) -> bool:
        """Whether the server speaks HTTPS itself."""
        return self.tls_certificate is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class StorageSettings:
    """Where keys, database and telemetry are kept."""

    data_dir: Path = DATA_DIR_DEFAULT
    master_key: Path | None = None
    log_key: Path | None = None
    database_url: Secret | None = None  # it may hold a password
    busy_timeout_ms: int = setting(
        BUSY_TIMEOUT_MS,
        minimum=100,
        maximum=60_000,
        help="a batch gets 503 when the database is locked longer",
    )

    @property
    def master_key_path(self) -> Path:
        """Where the master key is."""
        return self.master_key or self.data_dir / MASTER_KEY_NAME

    @property
    def log_key_path(self) -> Path:
        """Where the log's signing key is."""
        return self.log_key or self.data_dir / LOG_KEY_NAME

    @property
    def admin_token_path(self) -> Path:
        """Where `init` leaves the first admin token."""
        return self.data_dir / ADMIN_FILE_NAME

    @property
    def url(self) -> str:
        """The database's URL: SQLite in the data directory unless set."""
        if self.database_url is not None:
            return self.database_url.reveal()
        return f"sqlite:///{self.data_dir / DATABASE_NAME}"


@dataclass(frozen=True)
class TelemetrySettings:
    """Which telemetry store, and how it is fed (`telemetry.factory` says more on each)."""

    kind: Kind = "duckdb"
    path: Path | None = None
    url: str = ""
    database: str = DATABASE_DEFAULT
    retention_policy: str = ""
    create_database: bool = True
    org: str = ""
    bucket: str = ""
    query: Dialect = "influxql"
    user: str = ""
    password: Secret | None = None
    token: Secret | None = None
    ca_file: Path | None = None
    timeout_s: float = setting(10.0, minimum=0.1, maximum=600, help="a slower server is tried again later")
    query_timeout_s: float = setting(30.0, minimum=0.1, maximum=600, help="a longer query is refused")
    points_per_request_max: int = setting(
        5_000, minimum=1, maximum=100_000, help="more go in several requests"
    )
    memory_max_mb: int = setting(512, minimum=64, maximum=1_048_576, help="past it DuckDB uses the disk")
    threads: int = setting(2, minimum=1, maximum=256)
    retry_max_s: float = setting(
        60.0, minimum=0.5, maximum=3_600, help="pause between tries, while it is down"
    )
    series_per_device_max: int = setting(
        TELEMETRY_SERIES_MAX,
        minimum=1,
        maximum=1_000_000,
        help="names and units of one device; points of any further series are left out and counted",
    )


@dataclass(frozen=True)
class LimitSettings:
    """How much one client, and all of them, may ask for."""

    batches_waiting_max: int = setting(
        16, minimum=1, maximum=1_000, help="batches that wait their turn; more get 503 with Retry-After"
    )
    retry_after_s: int = setting(2, minimum=1, maximum=600, help="what a 503 says in Retry-After")
    public_burst: int = setting(100, minimum=1, maximum=100_000, help="requests without a token, per address")
    public_per_second: float = setting(20.0, minimum=0.01, maximum=100_000)
    enrolment_burst: int = setting(50, minimum=1, maximum=100_000, help="enrolments, per address")
    enrolment_per_second: float = setting(1.0, minimum=0.01, maximum=100_000)
    failed_token_burst: int = setting(20, minimum=1, maximum=100_000, help="wrong tokens, per address")
    failed_token_per_second: float = setting(0.5, minimum=0.01, maximum=100_000)


@dataclass(frozen=True)
class LogSettings:
    """What is logged to stderr, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


@dataclass(frozen=True)
class Settings:
    """All of them."""

    server: ServerSettings = field(default_factory=ServerSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    log: LogSettings = field(default_factory=LogSettings)


def read_settings(path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of `path` and the environment, checked as a whole. Raises UserError."""
    settings = load_settings(Settings, path, env_prefix=ENV_PREFIX, environ=environ)
    if settings.storage.data_dir == DATA_DIR_DEFAULT:  # a default is relative to the file's folder too
        storage = replace(settings.storage, data_dir=path.parent / DATA_DIR_DEFAULT)
        settings = replace(settings, storage=storage)
    check_settings(settings, str(path))
    return settings


def check_settings(settings: Settings, source: str) -> None:
    """What can't be seen from one setting alone. Raises UserError."""
    _check_server(settings.server, source)
    store_settings(settings)
    if settings.server.workers > 1 and settings.telemetry.kind == EMBEDDED_KIND:
        raise UserError(
            f"{settings.server.workers} workers can't share DuckDB's file: one process has it to itself",
            f"{source}: [server] workers, [telemetry] kind",
            "set [telemetry] kind to influx1 or influx2 (InfluxDB, VictoriaMetrics); or workers = 1",
        )


def _check_server(server: ServerSettings, source: str) -> None:
    if (server.tls_certificate is None) != (server.tls_key is None):
        raise UserError(
            "TLS needs a certificate and its key",
            f"{source}: [server] tls_certificate, tls_key",
            "set both, or neither",
        )
    for name, path in (("tls_certificate", server.tls_certificate), ("tls_key", server.tls_key)):
        if path is not None and not path.is_file():
            raise UserError("no such file", f"{source}: [server] {name} = {path}", "check the path")
    if not server.is_loopback and not server.has_tls and not server.allow_plain_http:
        raise UserError(
            f"{server.host} can be reached by other machines; without TLS, tokens can be read on the way",
            f"{source}: [server] host",
            "set tls_certificate and tls_key; or allow_plain_http = true if something before it speaks TLS",
        )


def store_settings(settings: Settings) -> StoreSettings:
    """What the telemetry store is made from. Raises UserError for a combination that can't work."""
    telemetry = settings.telemetry
    try:
        return StoreSettings(
            kind=telemetry.kind,
            path=str(telemetry.path or settings.storage.data_dir / TELEMETRY_NAME),
            url=telemetry.url,
            database=telemetry.database,
            retention_policy=telemetry.retention_policy,
            create_database=telemetry.create_database,
            org=telemetry.org,
            bucket=telemetry.bucket,
            query=telemetry.query,
            user=telemetry.user,
            password=telemetry.password.reveal() if telemetry.password else "",
            token=telemetry.token.reveal() if telemetry.token else "",
            ca_file=str(telemetry.ca_file) if telemetry.ca_file else "",
            timeout_s=telemetry.timeout_s,
            query_timeout_s=telemetry.query_timeout_s,
            points_per_request_max=telemetry.points_per_request_max,
            memory_max_mb=telemetry.memory_max_mb,
            threads=telemetry.threads,
        )
    except TelemetrySettingsError as error:
        raise UserError(str(error), "[telemetry]", "put that setting right") from error
