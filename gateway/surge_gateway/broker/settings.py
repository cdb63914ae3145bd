"""Settings of the embedded broker: section `[broker]` of the gateway's file.

Sizes end in `_bytes_max`, durations in `_ms`. Each limit's help says what happens at it.
"""

from dataclasses import dataclass
from pathlib import Path

from surge_host.settings_values import setting

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class BrokerSettings:
    """How the gateway runs its own nats-server."""

    host: str = setting("127.0.0.1", help="address that boards connect to; 0.0.0.0 for every interface")
    port: int = setting(1883, minimum=1, maximum=65535, help="the MQTT port")
    folder: Path = setting(  # noqa: RUF009
        Path("broker"), help="configuration and sessions live here; made if missing, mode 0700"
    )
    program: Path | None = setting(  # noqa: RUF009
        None, help="nats-server to run instead of the one installed with Surge"
    )
    tls_certificate: Path | None = setting(  # noqa: RUF009
        None, help="PEM chain; with tls_key it makes the MQTT port TLS only"
    )
    tls_key: Path | None = setting(None, help="PEM key of tls_certificate")  # noqa: RUF009

    payload_bytes_max: int = setting(
        16 * KIB,
        minimum=1 * KIB,
        maximum=1 * MIB,
        help="a client that publishes more is disconnected",
    )
    connections_max: int = setting(
        20_000, minimum=2, maximum=1_000_000, help="further connections are refused until one closes"
    )
    subscriptions_max: int = setting(
        32, minimum=8, maximum=1_000, help="per connection; a subscription beyond it is refused"
    )
    pending_bytes_max: int = setting(
        32 * MIB,
        minimum=1 * MIB,
        maximum=1024 * MIB,
        help="per connection; a client that reads too slowly to stay below is disconnected and comes back",
    )
    unacknowledged_max: int = setting(
        64,
        minimum=1,
        maximum=10_000,
        help="QoS 1 messages in flight per subscription; more wait in the store",
    )
    memory_store_bytes_max: int = setting(
        16 * MIB, minimum=1 * MIB, maximum=4096 * MIB, help="at the limit new sessions are refused"
    )
    file_store_bytes_max: int = setting(
        256 * MIB,
        minimum=16 * MIB,
        maximum=65536 * MIB,
        help="sessions, states, waiting commands; at the limit new ones are refused, reports pass",
    )

    start_timeout_ms: int = setting(
        15_000,
        minimum=1_000,
        maximum=600_000,
        help="not ready by then is an error with the server's last words",
    )
    stop_timeout_ms: int = setting(
        5_000, minimum=100, maximum=60_000, help="from SIGTERM; then the server is killed"
    )
    reload_timeout_ms: int = setting(
        60_000,
        minimum=1_000,
        maximum=600_000,
        help="a reload checks every connected device's password again, about 1 ms each; later is an error",
    )
    restart_delay_ms: int = setting(
        200,
        minimum=10,
        maximum=60_000,
        help="wait before the first restart of a server that died; then doubled",
    )
    restart_delay_ms_max: int = setting(30_000, minimum=100, maximum=600_000, help="the doubling stops here")
    log_lines_per_second_max: int = setting(
        20, minimum=1, maximum=10_000, help="further lines of the server's log are dropped and counted"
    )

    def __post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: give both or neither")
