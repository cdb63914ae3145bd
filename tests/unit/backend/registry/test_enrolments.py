"""Enrolment: one token, one key, for ever (threat 2)."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from databases import SQLITE
from sqlalchemy import select

from surge_backend.db.schema import devices, enrolments, gateways, metadata, tokens
from surge_backend.registry.enrolments import (
    KIND_DEVICE,
    KIND_GATEWAY,
    EnrolledDevice,
    EnrolledGateway,
    enrol_device,
    enrol_gateway,
)
from surge_backend.registry.errors import EnrolmentRefused, EnrolmentUsed, UnknownSubject
from surge_backend.registry.gateway_rows import revoke_gateway
from surge_backend.registry.token_rows import find_principal
from surge_backend.registry.tokens import hash_token
from surge_host.mqtt_credentials import verify_bcrypt, verify_mosquitto_pbkdf2
from surge_wire import ed25519
from surge_wire.hkdf import mqtt_password
from surge_wire.ids import DEVICE, GATEWAY, is_id

from .conftest import Registry

SECRET = bytes(range(32))
OTHER_SECRET = bytes(range(1, 33))
KEY = ed25519.public_key(bytes(32))
OTHER_KEY = ed25519.public_key(b"\x01" * 32)


def spend(registry: Registry, token_hash: bytes, secret: bytes = SECRET) -> EnrolledDevice:
    with registry.database.write() as connection:
        return enrol_device(
            connection,
            registry.vault,
            token_hash,
            secret=secret,
            board="linux",
            name=None,
            now_ms=registry.now_ms,
        )


def spend_gateway(registry: Registry, token_hash: bytes, key: bytes = KEY) -> EnrolledGateway:
    with registry.database.write() as connection:
        return enrol_gateway(connection, token_hash, public_key=key, name=None, now_ms=registry.now_ms)


def test_device_row_is_whole(registry: Registry) -> None:
    owner_id = registry.owner()
    device = spend(registry, registry.enrolment(owner_id))
    assert device.created
    assert is_id(DEVICE, device.device_id)
    with registry.database.read() as connection:
        row = connection.execute(select(devices)).one()
    assert (row.owner_id, row.name, row.board, row.status, row.revision) == (
        owner_id,
        "thing",
        "linux",
        "active",
        1,
    )
    password = mqtt_password(SECRET)
    assert verify_bcrypt(password, row.mqtt_bcrypt)
    assert verify_mosquitto_pbkdf2(password, row.mqtt_pbkdf2_sha512)
    assert registry.vault.open(device.device_id, row.secret_sealed) == SECRET


@pytest.mark.threat(2)
def test_same_secret_again_gives_the_same_answer(registry: Registry) -> None:
    token_hash = registry.enrolment(registry.owner())
    first = spend(registry, token_hash)
    registry.now_ms += 3_600_000  # also long after the token's expiry
    again = spend(registry, token_hash)
    assert again == EnrolledDevice(first.device_id, created=False)
    with registry.database.read() as connection:
        assert len(connection.execute(select(devices)).all()) == 1


@pytest.mark.threat(2)
def test_another_secret_is_refused_and_the_key_stays(registry: Registry) -> None:
    token_hash = registry.enrolment(registry.owner())
    device = spend(registry, token_hash)
    with pytest.raises(EnrolmentUsed):
        spend(registry, token_hash, OTHER_SECRET)
    with registry.database.read() as connection:
        row = connection.execute(select(devices)).one()
    assert registry.vault.open(device.device_id, row.secret_sealed) == SECRET


@pytest.mark.threat(2)
def test_many_at_once_make_one_device(registry: Registry) -> None:
    token_hash = registry.enrolment(registry.owner())
    secrets = [bytes([i]) * 32 for i in range(6)]

    def attempt(secret: bytes) -> str | None:
        try:
            return spend(registry, token_hash, secret).device_id
        except EnrolmentUsed:
            return None

    with ThreadPoolExecutor(6) as pool:
        ids = [found for found in pool.map(attempt, secrets) if found]
    assert len(ids) == 1
    with registry.database.read() as connection:
        assert len(connection.execute(select(devices)).all()) == 1


@pytest.mark.threat(2)
@pytest.mark.parametrize("spent_by", ["device", "gateway"])
def test_expired_unknown_and_wrong_kind_look_the_same(registry: Registry, spent_by: str) -> None:
    owner_id = registry.owner()
    kind, other = (KIND_DEVICE, KIND_GATEWAY) if spent_by == "device" else (KIND_GATEWAY, KIND_DEVICE)
    expired = registry.enrolment(owner_id, kind, life_s=1)
    registry.now_ms += 1_000
    messages = set()
    for token_hash in (expired, bytes(32), registry.enrolment(owner_id, other)):
        attempt = spend if spent_by == "device" else spend_gateway
        with pytest.raises(EnrolmentRefused) as caught:
            attempt(registry, token_hash)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_gateway_again_gets_a_fresh_token_and_the_old_one_ends(registry: Registry) -> None:
    token_hash = registry.enrolment(registry.owner(), KIND_GATEWAY)
    first = spend_gateway(registry, token_hash)
    assert is_id(GATEWAY, first.gateway_id)
    second = spend_gateway(registry, token_hash)
    assert (second.gateway_id, second.created) == (first.gateway_id, False)
    lookup = [
        find_principal(registry.database, hash_token(made.token.token), registry.now_ms)
        for made in (first, second)
    ]
    assert lookup[0] is None
    assert lookup[1] is not None
    assert lookup[1].subject_id == first.gateway_id


@pytest.mark.threat(2)
def test_gateway_with_another_key_is_refused(registry: Registry) -> None:
    token_hash = registry.enrolment(registry.owner(), KIND_GATEWAY)
    spend_gateway(registry, token_hash)
    with pytest.raises(EnrolmentUsed):
        spend_gateway(registry, token_hash, OTHER_KEY)
    with registry.database.read() as connection:
        assert connection.execute(select(gateways.c.public_key)).scalar_one() == KEY


@pytest.mark.threat(2)
def test_gateway_may_not_repeat_after_expiry_or_revocation(registry: Registry) -> None:
    """Its key is public, so an old token and the key must not be enough for a fresh bearer token."""
    token_hash = registry.enrolment(registry.owner(), KIND_GATEWAY, life_s=60)
    gateway = spend_gateway(registry, token_hash)
    registry.now_ms += 60_000
    with pytest.raises(EnrolmentRefused):
        spend_gateway(registry, token_hash)
    registry.now_ms -= 60_000
    with registry.database.write() as connection:
        revoke_gateway(connection, gateway.gateway_id, None, registry.now_ms)
    with pytest.raises(EnrolmentRefused):
        spend_gateway(registry, token_hash)


def test_a_device_is_assigned_to_a_gateway_that_exists(registry: Registry) -> None:
    owner_id = registry.owner()
    with pytest.raises(UnknownSubject):
        registry.enrolment(owner_id, gateway_id="gaaaaaaaaaaaaaaaa")
    gateway_id = registry.gateway(owner_id)
    registry.device(owner_id, SECRET, gateway_id)
    with registry.database.read() as connection:
        assert connection.execute(select(devices.c.gateway_id)).scalar_one() == gateway_id
    with registry.database.write() as connection:
        revoke_gateway(connection, gateway_id, None, registry.now_ms)
    with pytest.raises(UnknownSubject):
        registry.enrolment(owner_id, gateway_id=gateway_id)


@pytest.mark.threat(25)
def test_a_dump_of_the_database_holds_no_secret(registry: Registry) -> None:
    owner_id = registry.owner()
    gateway = spend_gateway(registry, registry.enrolment(owner_id, KIND_GATEWAY))
    spend(registry, registry.enrolment(owner_id))
    with registry.database.read() as connection:
        assert len(connection.execute(select(enrolments)).all()) == 2
        assert len(connection.execute(select(tokens)).all()) == 1
    with registry.database.read() as connection:
        dump = repr([connection.execute(select(table)).all() for table in metadata.sorted_tables])
    assert gateway.gateway_id in dump
    url = registry.database.engine.url
    raw = b""
    if url.get_backend_name() == SQLITE:
        file = Path(str(url.database))
        raw = b"".join(path.read_bytes() for path in file.parent.glob(file.name + "*"))
    for secret in (SECRET, mqtt_password(SECRET).encode(), gateway.token.token.encode()):
        assert secret not in raw
        assert repr(secret)[2:-1] not in dump
        assert secret.hex().upper() not in dump.upper()
