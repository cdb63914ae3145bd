"""Who this gateway is: its key, id, token and the log's pinned key, as files in `state_dir`.

Place in the flow: written by `init_command`, read by `app` and `cli`. Rules kept: every file is mode 0600 and
written whole; secrets are `Secret`s and show in no log; nothing is overwritten.

    gateway.key     the Ed25519 seed, base64url
    api.token       the bearer token for the backend
    identity        a check sum, then gateway id and public key, the log's public key and id, the backend's
                    url; written last
    mqtt.password   only with an external broker
"""

import json
import stat
from dataclasses import dataclass
from pathlib import Path

from surge_gateway.backend_client import decode_base64url, encode_base64url
from surge_gateway.checked_file import add_check_line, open_check_line
from surge_gateway.errors import IdentityError
from surge_gateway.files import Files
from surge_host.settings_values import Secret
from surge_wire.ed25519 import public_key
from surge_wire.ids import GATEWAY, is_id
from surge_wire.limits import PUBLIC_KEY_LEN, SECRET_LEN

KEY_NAME = "gateway.key"
TOKEN_NAME = "api.token"  # noqa: S105 - a file name
IDENTITY_NAME = "identity"
MQTT_PASSWORD_NAME = "mqtt.password"  # noqa: S105 - a file name
FROM_BACKUP = "restore it from a backup, or enrol anew: surge gateway init with another state_dir"


@dataclass(frozen=True)
class Identity:
    """`seed` is the Ed25519 private key in base64url."""

    gateway_id: str
    seed: Secret
    token: Secret
    log_public_key: bytes
    log_id: str

    @property
    def seed_bytes(self) -> bytes:
        return decode_base64url(self.seed.reveal())


def refuse_shared_secrets(state_dir: Path) -> None:
    """Raises IdentityError where others than the owner may read a secret in `state_dir` (threat 25)."""
    for name in (KEY_NAME, TOKEN_NAME, MQTT_PASSWORD_NAME):
        path = state_dir / name
        try:
            mode = path.stat().st_mode
        except OSError:
            continue  # whoever reads it says why it can't be
        if stat.S_IMODE(mode) & 0o077:
            raise IdentityError(
                "a secret of the gateway can be read by others", str(path), f"chmod 600 {path}"
            )


def read_key(files: Files, state_dir: Path) -> Secret | None:
    """The seed as text, None where there is none yet. Raises IdentityError."""
    path = state_dir / KEY_NAME
    text = _read_text(files, path)
    if text is None:
        return None
    try:
        valid = len(decode_base64url(text)) == SECRET_LEN
    except ValueError:
        valid = False
    if not valid:
        raise IdentityError("the gateway's key is damaged", str(path), FROM_BACKUP)
    return Secret(text)


def read_identity(files: Files, state_dir: Path) -> Identity | None:
    """None where this gateway is not enrolled yet. Raises IdentityError."""
    path = state_dir / IDENTITY_NAME
    text = _read_text(files, path)
    if text is None:
        return None
    try:
        document = json.loads(open_check_line(text.encode()))
        gateway_id = document["gateway_id"]
        own_public_key = decode_base64url(document["public_key"])
        log_public_key = decode_base64url(document["log_public_key"])
        log_id = str(document["log_id"])
        if not is_id(GATEWAY, gateway_id) or len(log_public_key) != PUBLIC_KEY_LEN:
            raise ValueError("not an identity")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IdentityError(f"the gateway's identity is damaged: {error}", str(path), FROM_BACKUP) from error
    seed = read_key(files, state_dir)
    token = _read_text(files, state_dir / TOKEN_NAME)
    if seed is None or not token:
        missing = KEY_NAME if seed is None else TOKEN_NAME
        raise IdentityError(
            "a file of the gateway's identity is missing", str(state_dir / missing), FROM_BACKUP
        )
    if public_key(decode_base64url(seed.reveal())) != own_public_key:
        raise IdentityError(
            "the gateway's key is damaged, or that of another gateway", str(state_dir / KEY_NAME), FROM_BACKUP
        )
    return Identity(gateway_id, seed, Secret(token), log_public_key, log_id)


def read_newest_token(files: Files, state_dir: Path) -> str | None:
    """The token as it is on disk now, None where it can't be read: the one in use is kept then."""
    try:
        return _read_text(files, state_dir / TOKEN_NAME) or None
    except IdentityError:
        return None


def encode_identity(
    gateway_id: str, own_public_key: bytes, log_public_key: bytes, log_id: str, backend_url: str
) -> bytes:
    """The file's bytes."""
    document = {
        "gateway_id": gateway_id,
        "public_key": encode_base64url(own_public_key),
        "log_public_key": encode_base64url(log_public_key),
        "log_id": log_id,
        "backend_url": backend_url,
    }
    return add_check_line(json.dumps(document, indent=2).encode())


def read_mqtt_password(files: Files, state_dir: Path) -> Secret | None:
    """The password for an external broker, None where there is none. Raises IdentityError."""
    text = _read_text(files, state_dir / MQTT_PASSWORD_NAME)
    return Secret(text) if text else None


def _read_text(files: Files, path: Path) -> str | None:
    try:
        return files.read(path).decode().strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise IdentityError("a file of the gateway's identity is damaged", str(path), FROM_BACKUP) from error
    except OSError as error:
        raise IdentityError(
            f"a file of the gateway's identity can't be read: {error.strerror}",
            str(path),
            "run as the user who owns it",
        ) from error
