"""Tokens, devices, gateways and commands in the database: what each principal may see and change."""

import pytest
from sqlalchemy import insert, select, update

from surge_backend.db.schema import FROZEN, RETIRED, device_totals, devices, holds
from surge_backend.ledger.pricing import owner_account
from surge_backend.registry import command_rows, token_rows
from surge_backend.registry.command_rows import commands_after, list_commands, queue_command
from surge_backend.registry.device_rows import (
    device_changes,
    get_device,
    list_devices,
    next_revision,
    retire_device,
    unfreeze_device,
)
from surge_backend.registry.errors import LimitReached, UnknownSubject, WrongState
from surge_backend.registry.gateway_rows import get_gateway, list_gateways, revoke_gateway
from surge_backend.registry.token_rows import find_principal, issue_token, list_tokens, revoke_token
from surge_backend.registry.tokens import Principal, Role, hash_token
from surge_wire.command import RESTART, open_command
from surge_wire.hkdf import INFO_COMMAND, derive_key

from .conftest import Registry

SECRET = bytes(range(32))
ADMIN = Principal(Role.ADMIN, "", "t0")


def owner_principal(owner_id: str) -> Principal:
    return Principal(Role.OWNER, owner_id, "t1")


# --- tokens ---------------------------------------------------------------------------------------------


def test_a_live_token_is_found_and_no_other(registry: Registry) -> None:
    owner_id = registry.owner()
    with registry.database.write() as connection:
        issued = issue_token(connection, Role.OWNER, owner_id, "x", registry.now_ms, registry.now_ms + 1_000)
    key = hash_token(issued.token)
    found = find_principal(registry.database, key, registry.now_ms + 999)
    assert found == Principal(Role.OWNER, owner_id, issued.token_id)
    assert find_principal(registry.database, key, registry.now_ms + 1_000) is None
    assert find_principal(registry.database, hash_token(issued.token + "x"), registry.now_ms) is None
    with registry.database.write() as connection:
        revoke_token(connection, owner_principal(owner_id), issued.token_id, registry.now_ms)
    assert find_principal(registry.database, key, registry.now_ms) is None


def test_an_owner_sees_and_revokes_its_own_and_its_gateways_tokens(registry: Registry) -> None:
    ada, bob = registry.owner("Ada"), registry.owner("Bob")
    gateway_id = registry.gateway(ada)  # its enrolment issued one token
    with registry.database.write() as connection:
        own = issue_token(connection, Role.OWNER, ada, "own", registry.now_ms)
        others = issue_token(connection, Role.OWNER, bob, "others", registry.now_ms)
        admin = issue_token(connection, Role.ADMIN, "", "admin", registry.now_ms)
        seen = {row["id"]: row for row in list_tokens(connection, owner_principal(ada))}
        assert {row["subject_id"] for row in seen.values()} == {ada, gateway_id}
        assert own.token_id in seen
        assert all("hash" not in row for row in seen.values())
        assert len(list_tokens(connection, ADMIN)) == 4
        for token_id in (others.token_id, admin.token_id, "tnone"):
            with pytest.raises(UnknownSubject):
                revoke_token(connection, owner_principal(ada), token_id, registry.now_ms)
        revoke_token(connection, ADMIN, others.token_id, registry.now_ms)
    assert find_principal(registry.database, hash_token(others.token), registry.now_ms) is None


def test_revoking_again_keeps_the_first_time(registry: Registry) -> None:
    owner_id = registry.owner()
    with registry.database.write() as connection:
        issued = issue_token(connection, Role.OWNER, owner_id, "x", registry.now_ms)
        revoke_token(connection, ADMIN, issued.token_id, registry.now_ms + 1)
        revoke_token(connection, ADMIN, issued.token_id, registry.now_ms + 2)
        assert list_tokens(connection, ADMIN)[0]["revoked_ms"] == registry.now_ms + 1


def test_live_tokens_of_a_subject_are_limited(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_rows, "TOKENS_PER_SUBJECT_MAX", 2)
    owner_id = registry.owner()
    with registry.database.write() as connection:
        first = issue_token(connection, Role.OWNER, owner_id, "a", registry.now_ms)
        issue_token(connection, Role.OWNER, owner_id, "b", registry.now_ms)
        with pytest.raises(LimitReached):
            issue_token(connection, Role.OWNER, owner_id, "c", registry.now_ms)
        revoke_token(connection, ADMIN, first.token_id, registry.now_ms)
        issue_token(connection, Role.OWNER, owner_id, "c", registry.now_ms)


# --- devices --------------------------------------------------------------------------------------------


def test_an_owner_sees_its_own_devices_only(registry: Registry) -> None:
    ada, bob = registry.owner("Ada"), registry.owner("Bob")
    device_id = registry.device(ada, SECRET)
    with registry.database.write() as connection:
        assert get_device(connection, device_id, ada)["id"] == device_id
        assert [row["id"] for row in list_devices(connection, None, None, "", 10)] == [device_id]
        assert list_devices(connection, bob, None, "", 10) == []
        assert list_devices(connection, ada, "retired", "", 10) == []
        for change in (
            lambda: get_device(connection, device_id, bob),
            lambda: retire_device(connection, device_id, bob, "mine now", registry.now_ms),
            lambda: list_commands(connection, device_id, bob),
        ):
            with pytest.raises(UnknownSubject):
                change()


def test_listing_goes_on_after_an_id(registry: Registry) -> None:
    ada = registry.owner()
    ids = sorted(registry.device(ada, bytes([i]) * 32) for i in range(5))
    with registry.database.read() as connection:
        first = [row["id"] for row in list_devices(connection, ada, None, "", 3)]
        rest = [row["id"] for row in list_devices(connection, ada, None, first[-1], 3)]
    assert first + rest == ids


def test_secrets_and_verifiers_are_not_in_what_is_shown(registry: Registry) -> None:
    ada = registry.owner()
    registry.device(ada, SECRET)
    with registry.database.read() as connection:
        (row,) = list_devices(connection, ada, None, "", 10)
    assert not {"secret_sealed", "mqtt_bcrypt", "mqtt_pbkdf2_sha512"} & set(row.keys())


def test_retiring_is_for_good_and_counted_once(registry: Registry) -> None:
    ada = registry.owner()
    device_id = registry.device(ada, SECRET)
    with registry.database.write() as connection:
        retire_device(connection, device_id, ada, "sold", registry.now_ms)
        after = get_device(connection, device_id)
        retire_device(connection, device_id, ada, "again", registry.now_ms)
        assert get_device(connection, device_id) == after
        assert (after["status"], after["status_reason"], after["revision"]) == (RETIRED, "sold", 2)
        with pytest.raises(WrongState):
            unfreeze_device(connection, device_id, "please", registry.now_ms)


@pytest.mark.threat(1)
def test_unfreezing_releases_what_was_held(registry: Registry) -> None:
    ada = registry.owner()
    device_id = registry.device(ada, SECRET)
    with registry.database.write() as connection:
        connection.execute(
            update(devices)
            .where(devices.c.id == device_id)
            .values(
                status=FROZEN,
                status_reason="equivocation",
                status_evidence="{}",
                revision=next_revision(connection),
            )
        )
        connection.execute(
            insert(holds).values(
                device_id=device_id,
                account_id=owner_account(ada),
                amount=70,
                reason="equivocation",
                created_ms=registry.now_ms,
            )
        )
        assert unfreeze_device(connection, device_id, "key replaced", registry.now_ms + 5) == 70
        row = get_device(connection, device_id)
        assert (row["status"], row["status_reason"], row["status_evidence"]) == (
            "active",
            "key replaced",
            "{}",
        )
        assert connection.execute(select(holds.c.released_ms)).scalar_one() == registry.now_ms + 5
        with pytest.raises(WrongState):
            unfreeze_device(connection, device_id, "again", registry.now_ms)


# --- what a gateway is told -----------------------------------------------------------------------------


def test_a_gateway_is_told_of_its_own_devices(registry: Registry) -> None:
    ada, bob = registry.owner("Ada"), registry.owner("Bob")
    roof, cellar = registry.gateway(ada, b"\x01" * 32), registry.gateway(ada, b"\x02" * 32)
    anywhere = registry.device(ada, b"\x03" * 32)
    on_roof = registry.device(ada, b"\x04" * 32, roof)
    bobs_on_roof = registry.device(bob, b"\x05" * 32, roof)
    bobs = registry.device(bob, b"\x06" * 32)
    with registry.database.read() as connection:
        seen = {
            gateway: [change.device_id for change in device_changes(connection, gateway, 0)[0]]
            for gateway in (roof, cellar)
        }
    assert seen == {roof: [anywhere, on_roof, bobs_on_roof], cellar: [anywhere]}
    assert bobs not in seen[roof]


def test_changes_come_once_in_order_and_in_parts(registry: Registry) -> None:
    ada = registry.owner()
    gateway_id = registry.gateway(ada)
    ids = [registry.device(ada, bytes([i]) * 32) for i in range(5)]
    seen: list[str] = []
    revision, more = 0, True
    with registry.database.read() as connection:
        while more:
            changes, more = device_changes(connection, gateway_id, revision, limit=2)
            seen += [change.device_id for change in changes]
            revision = changes[-1].revision
        assert seen == ids
        assert device_changes(connection, gateway_id, revision) == ([], False)
    with registry.database.write() as connection:
        retire_device(connection, ids[1], ada, "sold", registry.now_ms)
        ((change,), more) = device_changes(connection, gateway_id, revision)
    assert (change.device_id, change.status, change.revision, more) == (ids[1], RETIRED, revision + 1, False)


@pytest.mark.threat(25)
def test_revoking_a_gateway_ends_its_tokens(registry: Registry) -> None:
    ada, bob = registry.owner("Ada"), registry.owner("Bob")
    gateway_id = registry.gateway(ada)
    with registry.database.write() as connection:
        issued = issue_token(connection, Role.GATEWAY, gateway_id, "x", registry.now_ms)
        with pytest.raises(UnknownSubject):
            revoke_gateway(connection, gateway_id, bob, registry.now_ms)
        revoke_gateway(connection, gateway_id, ada, registry.now_ms)
        assert get_gateway(connection, gateway_id)["status"] == RETIRED
        assert list_gateways(connection, bob, "", 10) == []
    assert find_principal(registry.database, hash_token(issued.token), registry.now_ms) is None


# --- commands -------------------------------------------------------------------------------------------


def queue(registry: Registry, device_id: str, owner_id: str | None = None) -> command_rows.QueuedCommand:
    with registry.database.write() as connection:
        return queue_command(
            connection,
            registry.vault,
            device_id,
            owner_id,
            operation=RESTART,
            arguments=None,
            now_ms=registry.now_ms,
            life_s=60,
        )


def test_a_command_is_the_devices_own_and_its_counter_rises(registry: Registry) -> None:
    ada = registry.owner()
    gateway_id = registry.gateway(ada)
    device_id, other_id = registry.device(ada, SECRET), registry.device(ada, b"\x09" * 32)
    assert [queue(registry, device_id).counter for _ in range(3)] == [1, 2, 3]
    assert queue(registry, other_id).counter == 1
    with registry.database.read() as connection:
        waiting = commands_after(connection, gateway_id, 0, registry.now_ms)
        assert [row["device_id"] for row in waiting] == [device_id, device_id, device_id, other_id]
        assert commands_after(connection, gateway_id, waiting[-1]["id"], registry.now_ms) == []
    command = open_command(waiting[1]["envelope"], device_id, derive_key(SECRET, INFO_COMMAND))
    assert (command.counter, command.operation, command.expires_ms) == (2, RESTART, registry.now_ms + 60_000)


def test_commands_wait_until_executed_or_expired(registry: Registry) -> None:
    ada = registry.owner()
    gateway_id = registry.gateway(ada)
    device_id = registry.device(ada, SECRET)
    for _ in range(3):
        queue(registry, device_id)
    with registry.database.write() as connection:
        connection.execute(
            insert(device_totals).values(
                device_id=device_id,
                reports=1,
                samples=1,
                bytes=1,
                microcredits=0,
                carry=0,
                boot_max=1,
                last_report_ms=registry.now_ms,
                command_counter=2,
                seq_max=0,
                first_seen_ms=registry.now_ms,
                last_seen_ms=registry.now_ms,
                boot_reports=1,
                boot_samples=1,
                boot_bytes=1,
                gaps_from=0,
                recent=b"",
            )
        )
        assert len(commands_after(connection, gateway_id, 0, registry.now_ms)) == 1
        assert commands_after(connection, gateway_id, 0, registry.now_ms + 60_000) == []


def test_waiting_commands_are_limited(registry: Registry) -> None:
    device_id = registry.device(registry.owner(), SECRET)
    for _ in range(command_rows.COMMANDS_WAITING_MAX):
        queue(registry, device_id)
    with pytest.raises(LimitReached):
        queue(registry, device_id)
    registry.now_ms += 60_000  # they expire
    assert queue(registry, device_id).counter == command_rows.COMMANDS_WAITING_MAX + 1


def test_another_owners_or_a_retired_device_gets_no_command(registry: Registry) -> None:
    ada, bob = registry.owner("Ada"), registry.owner("Bob")
    device_id = registry.device(ada, SECRET)
    with pytest.raises(UnknownSubject):
        queue(registry, device_id, bob)
    with registry.database.write() as connection:
        retire_device(connection, device_id, ada, "sold", registry.now_ms)
    with pytest.raises(WrongState):
        queue(registry, device_id, ada)


def test_a_gateway_gets_no_commands_of_others_devices(registry: Registry) -> None:
    ada, bob = registry.owner("Ada"), registry.owner("Bob")
    bobs_gateway = registry.gateway(bob)
    queue(registry, registry.device(ada, SECRET))
    with registry.database.read() as connection:
        assert commands_after(connection, bobs_gateway, 0, registry.now_ms) == []
