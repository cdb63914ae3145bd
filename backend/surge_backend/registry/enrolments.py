"""Enrolment: an owner hands out a token, a device or gateway spends it once, for one key.

Place in the flow: the owner creates the enrolment; `surge device enrol` and `surge gateway init` spend it.
Does not make the device's secret: the device does, and sends it once.

Rules kept (threat 2): a token enrols one subject; spending it again with the same key gives the same answer,
so a lost answer costs nothing; with another key it is refused and the enrolled key stays. Only hashes of the
token and the key are stored. A device may repeat after the token's expiry, since it proves that it has the
secret; a gateway may not, since its key is public and the answer holds a token.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, insert, select, update

from surge_backend.db.schema import devices, enrolments, gateways
from surge_backend.keys import SecretVault
from surge_backend.registry.device_rows import next_revision
from surge_backend.registry.errors import EnrolmentRefused, EnrolmentUsed, LimitReached, UnknownSubject
from surge_backend.registry.events import (
    DEVICE_ENROLLED,
    GATEWAY_ENROLLED,
    GATEWAY_ID,
    OWNER_ID,
    PUBLIC_KEY,
    record_event,
)
from surge_backend.registry.token_rows import IssuedToken, issue_token, revoke_subject_tokens
from surge_backend.registry.tokens import Role, hash_token, make_enrolment_token
from surge_host.mqtt_credentials import PBKDF2_SALT_BYTES, make_bcrypt, make_mosquitto_pbkdf2
from surge_wire.batch import FIRST_PREVIOUS
from surge_wire.hkdf import equal_in_constant_time, mqtt_password
from surge_wire.ids import DEVICE, GATEWAY, make_id

KIND_DEVICE = "device"
KIND_GATEWAY = "gateway"

ENROLMENT_LIFE_S_DEFAULT = 3_600
ENROLMENT_LIFE_S_MAX = 30 * 86_400
ENROLMENTS_OPEN_MAX = 10_000  # of one owner, unused and unexpired; more are refused


@dataclass(frozen=True)
class NewEnrolment:
    """An enrolment token: shown once and not stored."""

    token: str
    expires_ms: int

    def __repr__(self) -> str:
        return f"NewEnrolment(expires_ms={self.expires_ms})"


@dataclass(frozen=True)
class EnrolledDevice:
    """`created` is False where the same device asked again."""

    device_id: str
    created: bool


@dataclass(frozen=True)
class EnrolledGateway:
    """`token` is fresh each time; the one issued before for this enrolment is revoked."""

    gateway_id: str
    token: IssuedToken
    created: bool


def create_enrolment(
    connection: Connection,
    *,
    kind: str,
    owner_id: str,
    gateway_id: str | None,
    name: str,
    now_ms: int,
    life_s: int,
) -> NewEnrolment:
    """A token that enrols one device (for `gateway_id`, or any gateway of the owner) or one gateway."""
    if gateway_id is not None and _gateway_status(connection, gateway_id) != "active":
        raise UnknownSubject(f"no active gateway {gateway_id}")
    still_open = (
        select(enrolments.c.hash)
        .where(
            enrolments.c.owner_id == owner_id,
            enrolments.c.used_ms.is_(None),
            enrolments.c.expires_ms > now_ms,
        )
        .limit(ENROLMENTS_OPEN_MAX)
    )
    if len(connection.execute(still_open).all()) >= ENROLMENTS_OPEN_MAX:
        raise LimitReached(
            f"{ENROLMENTS_OPEN_MAX} enrolments of this owner are open: use them or let them expire"
        )
    token = make_enrolment_token()
    expires_ms = now_ms + life_s * 1000
    connection.execute(
        insert(enrolments).values(
            hash=hash_token(token),
            kind=kind,
            owner_id=owner_id,
            gateway_id=gateway_id,
            name=name,
            created_ms=now_ms,
            expires_ms=expires_ms,
        )
    )
    return NewEnrolment(token, expires_ms)


def _gateway_status(connection: Connection, gateway_id: str) -> str | None:
    return connection.execute(
        select(gateways.c.status).where(gateways.c.id == gateway_id)
    ).scalar_one_or_none()


def _key_hash(kind: str, key: bytes) -> bytes:
    """Tells a repeated key from another; the key has 256 bits, so the hash gives nothing away."""
    return hashlib.sha256(b"surge/1 enrol " + kind.encode() + b"\x00" + key).digest()


def _open_enrolment(
    connection: Connection, token_hash: bytes, kind: str, key_hash: bytes, now_ms: int
) -> RowMapping:
    """The enrolment row, if `key_hash` may spend it or has spent it."""
    row = (
        connection.execute(
            select(enrolments).where(enrolments.c.hash == token_hash, enrolments.c.kind == kind)
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise EnrolmentRefused(f"no enrolment of a {kind} with this token")
    if row["used_ms"] is not None:
        if not equal_in_constant_time(row["key_hash"], key_hash):
            raise EnrolmentUsed("this token has enrolled another key")
        if kind == KIND_DEVICE:
            return row
    if row["expires_ms"] <= now_ms:
        raise EnrolmentRefused(f"no enrolment of a {kind} with this token")
    return row


def _spend(connection: Connection, token_hash: bytes, key_hash: bytes, subject_id: str, now_ms: int) -> None:
    """Mark the enrolment as used. The condition makes two spenders at once impossible on any database."""
    result = connection.execute(
        update(enrolments)
        .where(enrolments.c.hash == token_hash, enrolments.c.used_ms.is_(None))
        .values(used_ms=now_ms, subject_id=subject_id, key_hash=key_hash)
    )
    if result.rowcount != 1:
        raise EnrolmentUsed("this token has just enrolled another key")


def enrol_device(
    connection: Connection,
    vault: SecretVault,
    token_hash: bytes,
    *,
    secret: bytes,
    board: str,
    name: str | None,
    now_ms: int,
) -> EnrolledDevice:
    """Enrol the device that holds `secret` (32 bytes). Raises EnrolmentRefused, EnrolmentUsed."""
    key_hash = _key_hash(KIND_DEVICE, secret)
    row = _open_enrolment(connection, token_hash, KIND_DEVICE, key_hash, now_ms)
    if row["used_ms"] is not None:
        return EnrolledDevice(row["subject_id"], created=False)
    device_id = make_id(DEVICE, os.urandom(10))
    password = mqtt_password(secret)
    connection.execute(
        insert(devices).values(
            id=device_id,
            owner_id=row["owner_id"],
            name=name or row["name"],
            board=board,
            gateway_id=row["gateway_id"],
            secret_sealed=vault.seal(device_id, secret),
            mqtt_bcrypt=make_bcrypt(password),
            mqtt_pbkdf2_sha512=make_mosquitto_pbkdf2(password, secrets.token_bytes(PBKDF2_SALT_BYTES)),
            status="active",
            revision=next_revision(connection),
            created_ms=now_ms,
        )
    )
    _spend(connection, token_hash, key_hash, device_id, now_ms)
    detail = {OWNER_ID: row["owner_id"], GATEWAY_ID: row["gateway_id"]}
    record_event(connection, DEVICE_ENROLLED, device_id, now_ms, detail)
    return EnrolledDevice(device_id, created=True)


def enrol_gateway(
    connection: Connection, token_hash: bytes, *, public_key: bytes, name: str | None, now_ms: int
) -> EnrolledGateway:
    """Enrol the gateway with `public_key` (32 bytes). Raises EnrolmentRefused, EnrolmentUsed."""
    key_hash = _key_hash(KIND_GATEWAY, public_key)
    row = _open_enrolment(connection, token_hash, KIND_GATEWAY, key_hash, now_ms)
    label = "enrolment " + token_hash[:4].hex()
    if row["used_ms"] is not None:
        gateway_id = row["subject_id"]
        if _gateway_status(connection, gateway_id) != "active":
            raise EnrolmentRefused("this gateway is revoked")
        revoke_subject_tokens(connection, Role.GATEWAY, gateway_id, now_ms)
        return EnrolledGateway(
            gateway_id, issue_token(connection, Role.GATEWAY, gateway_id, label, now_ms), created=False
        )
    gateway_id = make_id(GATEWAY, os.urandom(10))
    connection.execute(
        insert(gateways).values(
            id=gateway_id,
            owner_id=row["owner_id"],
            name=name or row["name"],
            public_key=public_key,
            status="active",
            next_seq=0,
            chain_hash=FIRST_PREVIOUS,
            created_ms=now_ms,
        )
    )
    _spend(connection, token_hash, key_hash, gateway_id, now_ms)
    detail = {OWNER_ID: row["owner_id"], PUBLIC_KEY: public_key}
    record_event(connection, GATEWAY_ENROLLED, gateway_id, now_ms, detail)
    return EnrolledGateway(
        gateway_id, issue_token(connection, Role.GATEWAY, gateway_id, label, now_ms), created=True
    )
