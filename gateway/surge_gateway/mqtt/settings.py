"""Settings of the gateway's MQTT client: section `[mqtt]` of the gateway's file.

With the embedded broker the app fills host, port, user and password itself.
"""

from dataclasses import dataclass
from pathlib import Path

from surge_host.settings_values import Secret, setting


@dataclass(frozen=True)
class MqttSettings:
    """Where the broker is, and the link's limits."""

    host: str = setting("127.0.0.1", help="the broker's name or address")
    port: int = setting(1883, minimum=1, maximum=65535, help="the broker's MQTT port")
    user: str = setting("", help="the gateway's id, as the broker knows it")
    password: Secret | None = setting(None, help="the gateway's password at the broker")  # noqa: RUF009
    tls: bool = setting(False, help="connect by TLS and check the broker's certificate")
    tls_authority: Path | None = setting(  # noqa: RUF009
        None, help="PEM of the authority to trust instead of the system's"
    )

    keep_alive_s: int = setting(
        15, minimum=1, maximum=3_600, help="a silent broker is given up after two to three times this"
    )
    connect_timeout_ms: int = setting(
        10_000,
        minimum=100,
        maximum=600_000,
        help="for TCP, TLS, CONNACK and SUBACK together; later is a failed attempt, and the next one follows",
    )
    reconnect_delay_ms: int = setting(
        250, minimum=10, maximum=60_000, help="wait before the first new attempt; then doubled"
    )
    reconnect_delay_ms_max: int = setting(
        30_000, minimum=100, maximum=600_000, help="the doubling stops here; attempts never stop"
    )
    payload_bytes_max: int = setting(
        16 * 1024,
        minimum=1024,
        maximum=1024 * 1024,
        help="a larger message is dropped and counted, in and out",
    )
    outgoing_qos0_max: int = setting(
        10_000, minimum=1, maximum=1_000_000, help="acks waiting to be sent; beyond it the oldest is dropped"
    )
    outgoing_qos1_max: int = setting(
        1_000,
        minimum=1,
        maximum=100_000,
        help="commands waiting or unacknowledged; beyond it new ones are refused",
    )
    in_flight_max: int = setting(
        64, minimum=1, maximum=60_000, help="commands sent and not yet acknowledged; further ones wait"
    )

    def __post_init__(self) -> None:
        if self.tls_authority is not None and not self.tls:
            raise ValueError("tls_authority is given but tls is off: set tls = true, or leave it out")
