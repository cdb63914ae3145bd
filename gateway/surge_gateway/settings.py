"""The gateway's settings: every limit and where it is reached, with its default.

Place in the flow: filled by `surge_host.settings_loader` from `gateway.toml` and
`SURGE_GATEWAY_<SECTION>_<KEY>`; read by `app` and `cli` only, which hand each part what it needs. Each
limit's help says what happens at it. `gateway.example.toml` shows every setting; a test holds the two
together.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from surge_gateway.broker.settings import BrokerSettings
from surge_gateway.mqtt.settings import MqttSettings
from surge_host.settings_values import setting
from surge_wire.limits import BATCH_LEN_MAX, BATCH_REPORTS_MAX, REPORT_LEN_MAX

ENV_PREFIX = "SURGE_GATEWAY"
KIB = 1024
MIB = 1024 * KIB
BATCH_FRAME_LEN = 4 * KIB  # headers and chain of a batch, beside its reports


@dataclass(frozen=True)
class GatewaySettings:
    """The process itself."""

    state_dir: Path = setting(  # noqa: RUF009
        Path("gateway-state"), help="key, token, spool and sealed batches; made by `surge gateway init`"
    )
    broker: Literal["embedded", "external"] = setting(
        "embedded", help="embedded: run nats-server as [broker] says; external: connect as [mqtt] says"
    )
    drain_s: int = setting(
        10,
        minimum=0,
        maximum=3600,
        help="at a stop, how long to try to send; the rest goes after the next start",
    )
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True)
class BackendSettings:
    """The uplink."""

    url: str = setting(help="https://...; http:// only to this machine, or with plain_http")
    plain_http: bool = setting(
        False, help="allow http:// to another machine: token and data travel in the clear"
    )
    tls_authority: Path | None = setting(None, help="PEM of the authority to trust instead of the system's")  # noqa: RUF009
    timeout_ms: int = setting(
        30_000, minimum=100, maximum=600_000, help="per request; later is a failed attempt"
    )
    retry_ms: int = setting(
        500, minimum=10, maximum=60_000, help="first wait after a failed attempt; then doubled"
    )
    retry_max_ms: int = setting(
        60_000, minimum=100, maximum=3_600_000, help="the doubling stops here; attempts never stop"
    )
    refused_retry_ms: int = setting(
        60_000,
        minimum=100,
        maximum=3_600_000,
        help="wait after a refusal or a bad receipt: all is kept, the state is in the log and in /status",
    )

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url is {self.url!r}, not http:// or https://")
        if self.tls_authority is not None and not self.url.startswith("https://"):
            raise ValueError("tls_authority is given but url is not https://")


@dataclass(frozen=True)
class IngressSettings:
    """What is taken from devices. What is not taken is not acknowledged, so devices keep it."""

    report_bytes_max: int = setting(
        REPORT_LEN_MAX, minimum=256, maximum=REPORT_LEN_MAX, help="a longer report is refused and counted"
    )
    reports_per_s_max: float = setting(
        20.0, minimum=0.01, maximum=100_000.0, help="per device, on average; beyond it refused and counted"
    )
    reports_burst_max: int = setting(
        200,
        minimum=1,
        maximum=1_000_000,
        help="per device, at once after a pause; beyond it refused and counted",
    )
    pending_bytes_max: int = setting(
        4 * MIB,
        minimum=64 * KIB,
        maximum=256 * MIB,
        help="reports that wait for the disk; beyond it refused and counted",
    )


@dataclass(frozen=True)
class SpoolSettings:
    """Reports on disk until a receipt covers them."""

    bytes_max: int = setting(
        1024 * MIB,
        minimum=1 * MIB,
        maximum=1024 * 1024 * MIB,
        help="at the limit nothing is accepted until receipts free room; said once a minute",
    )


@dataclass(frozen=True)
class BatchSettings:
    """A batch is closed by whichever comes first."""

    reports_max: int = setting(2_000, minimum=1, maximum=BATCH_REPORTS_MAX, help="reports in a batch")
    bytes_max: int = setting(
        768 * KIB,
        minimum=REPORT_LEN_MAX + BATCH_FRAME_LEN,
        maximum=BATCH_LEN_MAX - BATCH_FRAME_LEN,
        help="report bytes in a batch; must pass every proxy in front of the backend",
    )
    age_ms: int = setting(250, minimum=1, maximum=3_600_000, help="a report waits no longer for others")


@dataclass(frozen=True)
class AggregateSettings:
    """Windows instead of single readings, for a thin uplink. Usage always goes as it came."""

    enabled: bool = False
    window_s: int = setting(
        60, minimum=1, maximum=3600, help="one batch per window; closed early by [batch] limits"
    )


@dataclass(frozen=True)
class RegistrySettings:
    """Which devices may connect."""

    poll_s: float = setting(5.0, minimum=0.05, maximum=3600.0, help="how soon an enrolled device can connect")


@dataclass(frozen=True)
class DispatchSettings:
    """Commands to devices."""

    poll_s: float = setting(5.0, minimum=0.05, maximum=3600.0, help="how soon a command is seen")
    republish_s: float = setting(
        30.0, minimum=0.05, maximum=3600.0, help="until the device reports it as executed, or it expires"
    )


@dataclass(frozen=True)
class TransparencySettings:
    """Watching the backend's log."""

    check_s: float = setting(
        60.0, minimum=0.05, maximum=86_400.0, help="ask for the head and a consistency proof so often"
    )


@dataclass(frozen=True)
class StatusSettings:
    """A small HTTP server: /healthz, /metrics, /status."""

    enabled: bool = False
    host: str = setting("127.0.0.1", help="it has no password: keep it on this machine")
    port: int = setting(
        0, minimum=0, maximum=65535, help="0: any free port; logged, and in state_dir/status.url"
    )


@dataclass(frozen=True)
class Settings:
    """All sections of `gateway.toml`."""

    gateway: GatewaySettings
    backend: BackendSettings
    broker: BrokerSettings
    mqtt: MqttSettings
    ingress: IngressSettings
    spool: SpoolSettings
    batch: BatchSettings
    aggregate: AggregateSettings
    registry: RegistrySettings
    dispatch: DispatchSettings
    transparency: TransparencySettings
    status: StatusSettings
