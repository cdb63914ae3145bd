"""Mosquitto's password and ACL files, and an example configuration, for those who run Mosquitto.

Place in the flow: the gateway (or a person) calls `write_mosquitto_files` where a site has its own Mosquitto,
at start and after each enrolment; then Mosquitto needs a SIGHUP to read them. The rendering is pure. Does not
start, signal or supervise Mosquitto.

Rules kept: the same grants as `nats_config`, listed user by user (a `pattern` line would grant them to the
gateway's user as well); ids and verifiers are checked before they are rendered; files are replaced whole,
mode 0600.

Versions. Tried with Mosquitto 2.0.11. Mosquitto 2.1 deprecates `password_file` and `acl_file` in favour of
plugins of the same content (mosquitto_password_file, mosquitto_acl_file) and still reads both. Files of mode
0600 must belong to the user that Mosquitto runs as, as it reads them again, at SIGHUP, after it has dropped
its privileges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from surge_gateway.broker.errors import BrokerError
from surge_gateway.broker.private_file import make_private_folder, write_private_file
from surge_gateway.broker.users import check_users
from surge_host.mqtt_credentials import DeviceCredential, GatewayCredential
from surge_wire.topics import ACK, ALL_REPORTS, ALL_STATES, COMMAND, REPORT, ROOT, STATE, topic

PASSWORD_FILE = "passwords"  # noqa: S105
ACL_FILE = "acl"
EXAMPLE_FILE = "mosquitto.conf"

PACKET_OVERHEAD_BYTES_MAX = 256  # header, topic and packet id around a payload
QUEUED_MESSAGES_MAX = 20_000  # per slow or absent client; later ones are dropped
QUEUED_BYTES_MAX = 32 * 1024 * 1024
INFLIGHT_MESSAGES_MAX = 64  # QoS 1 messages unacknowledged per client; further ones are queued
CONNECTIONS_MAX = 20_000
SESSION_EXPIRY = "7d"  # a session whose client stays away longer is dropped, with what waits for it
_SETTING = "folder of Mosquitto's files"


@dataclass(frozen=True)
class MosquittoFiles:
    """Where the files are."""

    password_file: Path
    acl_file: Path
    example_conf: Path


def write_mosquitto_files(
    folder: Path,
    devices: Sequence[DeviceCredential],
    gateway: GatewayCredential,
    *,
    host: str = "127.0.0.1",
    port: int = 1883,
    payload_bytes_max: int = 16 * 1024,
) -> MosquittoFiles:
    """Writes both files, and the example configuration where there is none: it is the operator's to edit.

    Raises BrokerError for ids or verifiers that aren't, or where it can't write.
    """
    acl = render_acl_file(gateway, devices)
    passwords = render_password_file(gateway, devices)
    make_private_folder(folder, _SETTING)
    files = MosquittoFiles(folder / PASSWORD_FILE, folder / ACL_FILE, folder / EXAMPLE_FILE)
    # Permissions first: a user that exists without them could do nothing, and that is how to fail.
    write_private_file(files.acl_file, acl, _SETTING)
    write_private_file(files.password_file, passwords, _SETTING)
    if not files.example_conf.exists():
        conf = render_example_conf(folder, host=host, port=port, payload_bytes_max=payload_bytes_max)
        write_private_file(files.example_conf, conf, _SETTING)
    return files


def render_password_file(gateway: GatewayCredential, devices: Sequence[DeviceCredential]) -> str:
    """`user:verifier` lines. Raises BrokerError."""
    check_users(gateway, devices)
    lines = [f"{gateway.gateway_id}:{gateway.pbkdf2_sha512}"]
    lines += [f"{device.device_id}:{device.pbkdf2_sha512}" for device in devices]
    return "\n".join(lines) + "\n"


def render_acl_file(gateway: GatewayCredential, devices: Sequence[DeviceCredential]) -> str:
    """One block of `topic` lines for each user; Mosquitto refuses what isn't listed. Raises BrokerError."""
    check_users(gateway, devices)
    blocks = [
        f"user {gateway.gateway_id}\n"
        f"topic read {ALL_REPORTS}\ntopic read {ALL_STATES}\n"
        f"topic write {ROOT}+/{ACK}\ntopic write {ROOT}+/{COMMAND}\n"
    ]
    for device in devices:
        own = device.device_id
        blocks.append(
            f"user {own}\n"
            f"topic write {topic(own, REPORT)}\ntopic write {topic(own, STATE)}\n"
            f"topic read {topic(own, ACK)}\ntopic read {topic(own, COMMAND)}\n"
        )
    return "\n".join(blocks)


def render_example_conf(folder: Path, *, host: str, port: int, payload_bytes_max: int) -> str:
    """A mosquitto.conf with the limits that Surge needs. Raises BrokerError for a name it can't hold."""
    for text in (str(folder.absolute()), host):
        # Mosquitto's file has neither quotes nor escapes: a line break would be a new directive.
        if not text.isprintable() or text != text.strip():
            raise BrokerError(f"can't be written into mosquitto.conf: {text!r}", _SETTING, "use another name")
    return f"""\
# Example made by Surge; yours to edit.
# Surge replaces {PASSWORD_FILE} and {ACL_FILE} beside it; send SIGHUP after that.
# Mosquitto 2.1 prefers plugins to password_file and acl_file, and still reads both.
listener {port} {host}
max_connections {CONNECTIONS_MAX}
# A device can't throw another one off by taking its client id.
use_username_as_clientid true

allow_anonymous false
password_file {folder.absolute() / PASSWORD_FILE}
acl_file {folder.absolute() / ACL_FILE}

# The defaults (1,000 queued, 20 in flight) lose bursts.
max_queued_messages {QUEUED_MESSAGES_MAX}
max_queued_bytes {QUEUED_BYTES_MAX}
max_inflight_messages {INFLIGHT_MESSAGES_MAX}
# A client that sends a larger packet is disconnected.
max_packet_size {payload_bytes_max + PACKET_OVERHEAD_BYTES_MAX}
persistent_client_expiration {SESSION_EXPIRY}

# For passwords that cross a network, use TLS: certfile and keyfile belong right below the listener line.
"""
