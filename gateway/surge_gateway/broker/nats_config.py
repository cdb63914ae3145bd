"""nats-server's configuration, rendered from settings and credentials.

Place in the flow: `embedded` writes the text to a file and starts or reloads the server with it. Pure: no
file, no clock, no randomness. Does not hold or see a password, only bcrypt verifiers.

Rules kept:

- A user may connect by MQTT only. nats-server insists on a port for its own protocol, so that one is on
  loopback, at a number the kernel picks, and lets nobody in. No monitoring port, no user of the system
  account, nothing anonymous.
- Permissions are written on NATS subjects: `surge/1/x/ack` is `surge.1.x.ack`. An allow list refuses the
  rest.
- These are the fewest grants that work. Since 2.12.3 the server's own `$MQTT.` subjects are implicit for MQTT
  clients (server pull request 7637), so QoS 1 needs no `$MQTT.sub.>`; tried on 2.15.1, which also refuses a
  client that publishes or subscribes there itself (the contract suite keeps trying).
- The text is JSON, which nats-server reads; every value that isn't ours passes through `json.dumps`.

What it does not do: nats-server can't tie an MQTT client id to a user, so a device that knows another's
client id can throw it off, and discard its session, for as long as it repeats that. It gains nothing to read
(tested). Clients should use client ids that can't be guessed; the gateway's own does.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from surge_gateway.broker.errors import BrokerError
from surge_gateway.broker.settings import BrokerSettings
from surge_gateway.broker.users import check_users
from surge_host.mqtt_credentials import DeviceCredential, GatewayCredential
from surge_wire.topics import ACK, ALL_REPORTS, ALL_STATES, COMMAND, REPORT, ROOT, STATE, topic

SERVER_NAME = "surge-gateway"  # JetStream wants one; it is on no network, so it needs no more than this
HEADER_BYTES_MAX = 512  # nats-server counts its MQTT headers and the topic as payload
AUTHENTICATION_TIMEOUT_S = 10  # a connection that hasn't said who it is by then is closed
WRITE_DEADLINE = "10s"  # a client that takes no byte for so long is disconnected

_MQTT_ONLY = ["MQTT"]


def render_nats_config(
    settings: BrokerSettings, gateway: GatewayCredential, devices: Sequence[DeviceCredential]
) -> str:
    """The whole file. Raises BrokerError for an id, verifier or path that can't be rendered safely."""
    check_users(gateway, devices)
    users = [_gateway_user(gateway), *(_device_user(device) for device in devices)]
    mqtt: dict[str, Any] = {
        "host": _text(settings.host, "broker.host"),
        "port": settings.port,
        "max_ack_pending": settings.unacknowledged_max,
        "reject_qos2_publish": True,
        "downgrade_qos2_subscribe": True,
    }
    if settings.tls_certificate is not None and settings.tls_key is not None:
        mqtt["tls"] = {
            "cert_file": _path(settings.tls_certificate, "broker.tls_certificate"),
            "key_file": _path(settings.tls_key, "broker.tls_key"),
        }
    config = {
        "server_name": SERVER_NAME,
        "host": "127.0.0.1",
        "port": -1,
        "max_payload": settings.payload_bytes_max + HEADER_BYTES_MAX,
        "max_connections": settings.connections_max,
        "max_subscriptions": settings.subscriptions_max,
        "max_pending": settings.pending_bytes_max,
        "write_deadline": WRITE_DEADLINE,
        "jetstream": {
            "store_dir": _path(settings.folder, "broker.folder"),
            "max_memory_store": settings.memory_store_bytes_max,
            "max_file_store": settings.file_store_bytes_max,
            # Each QoS 1 subscription is a consumer of one stream; 2.15 lets a stream have 1,000 by default.
            "limits": {"default_max_consumers": settings.connections_max * settings.subscriptions_max},
        },
        "mqtt": mqtt,
    }
    # One user a line: a reader finds a device, and a diff shows what a reload changed.
    rendered_users = ",\n".join(json.dumps(user, ensure_ascii=False) for user in users)
    head = json.dumps(config, ensure_ascii=False, indent=2).removesuffix("\n}")
    return (
        f'{head},\n  "authorization": {{\n    "timeout": {AUTHENTICATION_TIMEOUT_S},\n    "users": [\n'
        f"{rendered_users}\n    ]\n  }}\n}}\n"
    )


def to_subject(mqtt_topic: str) -> str:
    """The NATS subject of one of our topics or filters; ids hold no character that would need escaping."""
    return mqtt_topic.replace("/", ".").replace("+", "*")


def _device_user(device: DeviceCredential) -> dict[str, Any]:
    own = {channel: to_subject(topic(device.device_id, channel)) for channel in (REPORT, STATE, ACK, COMMAND)}
    return {
        "user": device.device_id,
        "password": device.bcrypt,
        "permissions": {"publish": [own[REPORT], own[STATE]], "subscribe": [own[ACK], own[COMMAND]]},
        "allowed_connection_types": _MQTT_ONLY,
    }


def _gateway_user(gateway: GatewayCredential) -> dict[str, Any]:
    return {
        "user": gateway.gateway_id,
        "password": gateway.bcrypt,
        "permissions": {
            "publish": [to_subject(f"{ROOT}+/{ACK}"), to_subject(f"{ROOT}+/{COMMAND}")],
            "subscribe": [to_subject(ALL_REPORTS), to_subject(ALL_STATES)],
        },
        "allowed_connection_types": _MQTT_ONLY,
    }


def _path(path: Path, setting: str) -> str:
    return _text(str(path.absolute()), setting)


def _text(text: str, setting: str) -> str:
    """`text`, if JSON and nats-server agree on how it is quoted: they don't on control characters."""
    if not text or not text.isprintable():
        raise BrokerError(f"not printable: {text!r}", setting, "use a name without control characters")
    return text
