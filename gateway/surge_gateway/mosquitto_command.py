"""`surge gateway mosquitto-files`: the password and ACL files of a Mosquitto that others run.

Place in the flow: by a person or a timer, before Mosquitto starts and after each enrolment. Rules kept: the
backend's newest list is taken, or where it does not answer the gateway's cache, which is said; the
gateway's own password is made once and kept in `state_dir`, where `surge gateway` finds it.
"""

import secrets
from pathlib import Path

from surge_gateway.backend_client import AnswerInvalid, BackendClient, DeviceEntry, Refusal, Unavailable
from surge_gateway.broker.mosquitto_files import MosquittoFiles, write_mosquitto_files
from surge_gateway.clock import SystemClock
from surge_gateway.files import Files, write_new
from surge_gateway.http_client import make_http
from surge_gateway.identity import MQTT_PASSWORD_NAME, Identity, read_identity, read_mqtt_password
from surge_gateway.registry import CONNECTING, read_registry
from surge_gateway.registry import FILE_NAME as REGISTRY_NAME
from surge_gateway.settings import Settings
from surge_host.errors import UserError
from surge_host.mqtt_credentials import DeviceCredential, make_gateway_credential
from surge_host.settings_values import Secret


async def write_files(settings: Settings, files: Files, out: Path) -> str:
    """What was done, for a person. Raises UserError, IdentityError, OSError."""
    state_dir = settings.gateway.state_dir
    identity = read_identity(files, state_dir)
    if identity is None:
        raise UserError("this gateway is not enrolled yet", str(state_dir), "run `surge gateway init` first")
    entries, source = await _devices(settings, files, identity)
    password = settings.mqtt.password or read_mqtt_password(files, state_dir)
    if password is None:
        password = Secret(secrets.token_urlsafe(32))
        write_new(files, state_dir / MQTT_PASSWORD_NAME, password.reveal().encode() + b"\n")
    written: MosquittoFiles = write_mosquitto_files(
        out,
        [DeviceCredential(entry.device_id, entry.mqtt_bcrypt, entry.mqtt_pbkdf2_sha512) for entry in entries],
        make_gateway_credential(settings.mqtt.user or identity.gateway_id, password.reveal()),
        port=settings.mqtt.port,
        payload_bytes_max=settings.mqtt.payload_bytes_max,
    )
    return (
        f"{len(entries)} devices ({source}) in {written.password_file} and {written.acl_file}; "
        f"{written.example_conf} shows how Mosquitto reads them. Send it SIGHUP after each change."
    )


async def _devices(settings: Settings, files: Files, identity: Identity) -> tuple[list[DeviceEntry], str]:
    """The devices that may connect, and where the list is from."""
    entries: dict[str, DeviceEntry] = {}
    revision, more = 0, True
    async with make_http(settings.backend) as http:
        client = BackendClient(http, settings.backend.url, identity.token.reveal(), SystemClock())
        try:
            while more:
                page = await client.devices(revision)
                entries |= {entry.device_id: entry for entry in page.devices}
                more = page.more and page.revision > revision
                revision = page.revision
        except (Unavailable, Refusal, AnswerInvalid) as error:
            _revision, cached = read_registry(files, settings.gateway.state_dir / REGISTRY_NAME)
            return list(cached.values()), f"from the cache, since the backend gave none: {error}"
    return [entry for entry in entries.values() if entry.status in CONNECTING], "from the backend"
