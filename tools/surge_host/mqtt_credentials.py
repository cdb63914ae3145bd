"""Verifiers for MQTT passwords: a broker checks a device with one, and nobody there knows its password.

Place in the flow: the backend knows each device's secret, derives its MQTT password (HKDF, "surge/1 mqtt")
and hands gateways a `DeviceCredential`; `nats_config` and `mosquitto_files` render it. Used by backend and
gateway, so it imports hashlib and bcrypt and nothing else of weight. Does not derive passwords and stores
nothing.

Cost. A Surge password is the base64url of 256 pseudo-random bits, so no dictionary or search finds it,
however cheap one guess is; slow hashing protects passwords that people choose. Every connection pays for the
cost, and on nats-server a reload pays it again for every device connected. Measured on nats-server 2.15.1
with 10,000 users on two shared cores: cost 4 lets 900 to 1,300 devices a second in (1.1 ms of server CPU
each) and a reload with 2,000 devices connected takes 2.2 s; cost 6, 510 a second and 7.4 s; cost 10, 33 a
second and 59 ms for every device connected. So bcrypt's lowest cost is the default here. Don't use these
functions for passwords that people choose.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

import bcrypt

BCRYPT_ROUNDS = 4  # bcrypt's minimum: see above
PBKDF2_ITERATIONS = 101  # Mosquitto's own default
PBKDF2_SALT_BYTES = 12  # the length that Mosquitto's own tool uses and older versions insist on
PBKDF2_HASH_BYTES = 64
PASSWORD_BYTES_MAX = 72  # bcrypt looks at no more; a longer one is refused, not cut
_PBKDF2_ITERATIONS_MAX = 10_000_000  # a verifier that asks for more is not one

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_PBKDF2 = re.compile(r"\$7\$([1-9][0-9]{0,7})\$([A-Za-z0-9+/]{16,64}={0,2})\$([A-Za-z0-9+/]{86}==)")


@dataclass(frozen=True)
class DeviceCredential:
    """One device's verifiers, one for each kind of broker. Neither gives the password away."""

    device_id: str
    bcrypt: str
    pbkdf2_sha512: str


@dataclass(frozen=True)
class GatewayCredential:
    """The same for the gateway's own user."""

    gateway_id: str
    bcrypt: str
    pbkdf2_sha512: str


def make_device_credential(device_id: str, password: str) -> DeviceCredential:
    """Both verifiers of a device's derived password, with fresh salts."""
    return DeviceCredential(
        device_id,
        make_bcrypt(password),
        make_mosquitto_pbkdf2(password, secrets.token_bytes(PBKDF2_SALT_BYTES)),
    )


def make_gateway_credential(gateway_id: str, password: str) -> GatewayCredential:
    """Both verifiers of the gateway's own random password, with fresh salts."""
    return GatewayCredential(
        gateway_id,
        make_bcrypt(password),
        make_mosquitto_pbkdf2(password, secrets.token_bytes(PBKDF2_SALT_BYTES)),
    )


def make_bcrypt(password: str, rounds: int = BCRYPT_ROUNDS) -> str:
    """The verifier that nats-server checks (`$2b$...`). ValueError for an unusable password or cost."""
    return bcrypt.hashpw(_password_bytes(password), bcrypt.gensalt(rounds)).decode("ascii")


def make_mosquitto_pbkdf2(password: str, salt: bytes, iterations: int = PBKDF2_ITERATIONS) -> str:
    """Mosquitto's `$7$iterations$salt$hash` (PBKDF2, HMAC-SHA-512). ValueError for unusable arguments."""
    if len(salt) < PBKDF2_SALT_BYTES:
        raise ValueError(f"salt has {len(salt)} bytes, needs {PBKDF2_SALT_BYTES}")
    if not 1 <= iterations <= _PBKDF2_ITERATIONS_MAX:
        raise ValueError(f"iterations must be 1 to {_PBKDF2_ITERATIONS_MAX}, not {iterations}")
    digest = hashlib.pbkdf2_hmac("sha512", _password_bytes(password), salt, iterations, PBKDF2_HASH_BYTES)
    return f"$7${iterations}${_base64(salt)}${_base64(digest)}"


def verify_bcrypt(password: str, verifier: str) -> bool:
    """Whether `password` belongs to the bcrypt `verifier`; False for what is no verifier."""
    return is_bcrypt(verifier) and bcrypt.checkpw(_password_bytes(password), verifier.encode("ascii"))


def verify_mosquitto_pbkdf2(password: str, verifier: str) -> bool:
    """Whether `password` belongs to the `$7$` `verifier`; False for what is no verifier."""
    parts = _PBKDF2.fullmatch(verifier)
    if parts is None or int(parts[1]) > _PBKDF2_ITERATIONS_MAX:
        return False
    try:
        salt = base64.b64decode(parts[2], validate=True)
        expected = base64.b64decode(parts[3], validate=True)
    except binascii.Error:
        return False
    digest = hashlib.pbkdf2_hmac("sha512", _password_bytes(password), salt, int(parts[1]), PBKDF2_HASH_BYTES)
    return hmac.compare_digest(digest, expected)


def is_bcrypt(verifier: str) -> bool:
    """Whether the text has a bcrypt verifier's shape: safe to render into a configuration."""
    return _BCRYPT.fullmatch(verifier) is not None


def is_mosquitto_pbkdf2(verifier: str) -> bool:
    """Whether the text has the shape of a `$7$` verifier: safe to render into a password file."""
    return _PBKDF2.fullmatch(verifier) is not None


def _password_bytes(password: str) -> bytes:
    data = password.encode("utf-8")
    if not 0 < len(data) <= PASSWORD_BYTES_MAX or 0 in data:
        raise ValueError(
            f"a password has 1 to {PASSWORD_BYTES_MAX} bytes and no NUL; this one has {len(data)}"
        )
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
