"""Double entry under attack: sums are zero, ids decide, refusals leave no trace."""

import hashlib
from collections.abc import Iterator

import pytest
from databases import sqlite_url, vandalise
from sqlalchemy import Connection, insert, select, update

from surge_backend.db import migrations
from surge_backend.db.engine import Database, open_engine
from surge_backend.db.schema import accounts, device_totals, devices, entries, owners, transfers
from surge_backend.errors import LedgerConflict, LedgerRefused
from surge_backend.ledger import holds, tariffs
from surge_backend.ledger.check import check_ledger, negative_accounts
from surge_backend.ledger.posting import (
    AMOUNT_MAX,
    Transfer,
    open_issuance,
    open_owner_accounts,
    post,
    set_carries,
)
from surge_backend.ledger.pricing import Tariff

OWNERS = ["oaaaaaaaaaaaaaaaa", "obbbbbbbbbbbbbbbb", "occcccccccccccccc"]
A, B, C = ("owner:" + owner for owner in OWNERS)
HASH = bytes(range(32))


def open_ledger(url: str) -> Database:
    database = open_engine(url)
    migrations.upgrade(database)
    with database.write() as connection:
        for owner in OWNERS:
            connection.execute(insert(owners).values(id=owner, name=owner, created_ms=0))
        open_issuance(connection)
        open_owner_accounts(connection, OWNERS)
    return database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = open_ledger(database_url)
    yield database
    database.close()


def balances(connection: Connection) -> dict[str, int]:
    return dict(connection.execute(select(accounts.c.id, accounts.c.balance)).all())


def everything(connection: Connection) -> list[object]:
    return [connection.execute(select(table)).all() for table in (accounts, transfers, entries)]


def test_a_transfer_moves_what_it_says(database: Database):
    with database.write() as connection:
        assert post(
            connection, Transfer("batch", HASH, (("issuance", -30), (A, 10), (B, 20)), 5, log_index=0)
        )
        assert balances(connection) == {"issuance": -30, A: 10, B: 20, C: 0}
        assert check_ledger(connection) == []


def test_the_id_is_what_the_contract_says():
    assert Transfer("batch", HASH, (), 0).id == hashlib.sha256(b"surge/1 transfer batch" + HASH).digest()


@pytest.mark.threat(11)
def test_the_same_again_is_a_no_op_and_other_content_a_conflict(database: Database):
    transfer = Transfer("batch", HASH, (("issuance", -30), (A, 30)), 5)
    with database.write() as connection:
        assert post(connection, transfer)
    with database.write() as connection:
        before = everything(connection)
        assert not post(connection, Transfer("batch", HASH, transfer.legs, 99, log_index=7))
        with pytest.raises(LedgerConflict, match="other content"):
            post(connection, Transfer("batch", HASH, (("issuance", -31), (A, 31)), 5))
        assert everything(connection) == before


@pytest.mark.threat(12)
@pytest.mark.parametrize(
    "legs",
    [
        pytest.param((("issuance", -1), (A, 2)), id="sum not zero"),
        pytest.param(((A, -1), (B, 1)), id="below zero"),
        pytest.param((("issuance", -AMOUNT_MAX - 1), (A, AMOUNT_MAX + 1)), id="amount over the bound"),
        pytest.param((("issuance", -(1 << 63)), (A, 1 << 63)), id="amount over 64 bits"),
        pytest.param((("issuance", -1.0), (A, 1.0)), id="float"),
        pytest.param((("issuance", float("nan")), (A, float("nan"))), id="NaN"),
        pytest.param((("issuance", -1), (A, True)), id="bool"),
        pytest.param((("issuance", 0), (A, 0)), id="zero"),
        pytest.param((("issuance", -1), ("owner:nobody", 1)), id="unknown account"),
        pytest.param(((A, 1), ("issuance", -1)), id="not sorted"),
        pytest.param((("issuance", -2), (A, 1), (A, 1)), id="an account twice"),
        pytest.param(((A, 1),), id="one leg"),
        pytest.param((), id="no legs"),
        pytest.param((("issuance", -1), ("x" * 65, 1)), id="account name too long"),
    ],
)
def test_refusals_change_nothing(database: Database, legs: tuple[tuple[str, int], ...]):
    with database.write() as connection:
        before = everything(connection)
        with pytest.raises(LedgerRefused):
            post(connection, Transfer("batch", HASH, legs, 5))
        assert everything(connection) == before


@pytest.mark.threat(12)
def test_a_balance_can_not_leave_its_bound(database: Database):
    with database.write() as connection:
        post(connection, Transfer("batch", HASH, (("issuance", -AMOUNT_MAX), (A, AMOUNT_MAX)), 5))
        with pytest.raises(LedgerRefused, match="balance"):
            post(connection, Transfer("batch", bytes(32), (("issuance", -1), (B, 1)), 5))
        assert check_ledger(connection) == []


@pytest.mark.parametrize("change", ["reference", "created_ms", "kind", "log_index"])
def test_what_a_transfer_is_for_is_checked(database: Database, change: str):
    legs = (("issuance", -1), (A, 1))
    bad = {
        "reference": Transfer("batch", b"short", legs, 5),
        "created_ms": Transfer("batch", HASH, legs, -1),
        "kind": Transfer("k" * 17, HASH, legs, 5),
        "log_index": Transfer("batch", HASH, legs, 5, log_index=-1),
    }[change]
    with database.write() as connection, pytest.raises(LedgerRefused):
        post(connection, bad)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            "UPDATE accounts SET balance = balance + 1 WHERE kind = 'owner' AND balance > 0",
            "balances sum to 1",
        ),
        ("UPDATE entries SET amount = amount + 1 WHERE amount > 0", "entries sum to 1"),
        ("UPDATE entries SET amount = amount * 2", "not those that were posted"),
        ("UPDATE transfers SET reference = zeroblob(32)", "doesn't follow from what it is for"),
        ("DELETE FROM entries WHERE amount > 0", "its 1 entries sum to -30"),
        ("UPDATE transfers SET ordinal = ordinal + 1", "belong to no transfer"),
        ("UPDATE accounts SET carry = 10240000", "out of bounds"),
    ],
)
def test_check_ledger_sees_damage(database: Database, damage: str, words: str):
    damaged(database, damage, words)


def test_check_ledger_sees_a_balance_that_is_no_integer():
    """As only SQLite would keep it: PostgreSQL's columns have types."""
    with sqlite_url() as url:
        database = open_ledger(url)
        damaged(database, "UPDATE accounts SET balance = 2.5 WHERE balance > 0", "not an integer")
        database.close()


def damaged(database: Database, damage: str, words: str) -> None:
    with database.write() as connection:
        post(connection, Transfer("batch", HASH, (("issuance", -30), (A, 30)), 5))
    vandalise(database, damage)
    with database.read() as connection:
        assert any(words in violation for violation in check_ledger(connection))


def test_an_account_below_zero_is_seen_and_the_database_refuses_it_too(database: Database):
    def set_below_zero() -> None:
        with database.write() as connection:
            connection.execute(update(accounts).where(accounts.c.id == B).values(balance=-1))

    with pytest.raises(Exception, match="balance_sign"):
        set_below_zero()
    vandalise(database, f"UPDATE accounts SET balance = -1 WHERE id = '{A}'")
    with database.read() as connection:
        assert [A in line for line in negative_accounts(connection)] == [True]


def test_carries_are_kept(database: Database):
    with database.write() as connection:
        set_carries(connection, {A: 17})
        assert connection.execute(select(accounts.c.carry).where(accounts.c.id == A)).scalar() == 17


@pytest.mark.threat(12)
@pytest.mark.parametrize("carries", [{A: -1}, {A: 10_240_000}, {A: 0.5}, {A: True}, {"owner:nobody": 1}])
def test_what_is_no_dust_is_refused_and_dust_for_nobody_is_not_lost(
    database: Database, carries: dict[str, int]
):
    with database.write() as connection:
        before = everything(connection)
        with pytest.raises(LedgerRefused):
            set_carries(connection, carries)
        assert everything(connection) == before


def test_tariffs_are_versions_and_never_reach_back(database: Database):
    with database.write() as connection:
        with pytest.raises(LedgerRefused, match="no tariff"):
            tariffs.tariff_at(connection, 50)
        tariffs.ensure_first_tariff(connection, 10)
        tariffs.ensure_first_tariff(connection, 10)
        tariffs.add_tariff(connection, Tariff(2, 100, sample_microcredits=20), 50)
        assert [tariffs.tariff_at(connection, t).version for t in (0, 99, 100, 101)] == [1, 1, 2, 2]
        assert [tariff.version for tariff in tariffs.all_tariffs(connection)] == [2, 1]
        with pytest.raises(LedgerRefused, match="version 3"):
            tariffs.add_tariff(connection, Tariff(2, 200), 150)
        with pytest.raises(LedgerRefused, match="past"):
            tariffs.add_tariff(connection, Tariff(3, 149), 150)


def test_holds_cover_what_a_device_earned_and_no_more_than_there_is(database: Database):
    device = "daaaaaaaaaaaaaaaa"
    with database.write() as connection:
        connection.execute(
            insert(devices).values(
                id=device,
                owner_id=OWNERS[0],
                name="",
                board="",
                secret_sealed=b"",
                mqtt_bcrypt="",
                mqtt_pbkdf2_sha512="",
                status="active",
                revision=1,
                created_ms=0,
            )
        )
        connection.execute(
            insert(device_totals).values(
                device_id=device,
                reports=1,
                samples=1,
                bytes=1,
                microcredits=25,
                carry=0,
                boot_max=0,
                last_report_ms=0,
                seq_max=0,
                first_seen_ms=0,
                last_seen_ms=0,
                boot_reports=1,
                boot_samples=1,
                boot_bytes=1,
                gaps_from=0,
                recent=b"",
            )
        )
        post(connection, Transfer("batch", HASH, (("issuance", -40), (A, 40)), 5))
        assert holds.hold_device(connection, device, A, "two holders", 9) == 25
        assert holds.payable(connection, A) == 15
        assert holds.hold_device(connection, device, A, "again", 9) == 15
        assert holds.payable(connection, A) == 0
        assert holds.release_device(connection, device, 10) == 40
        assert holds.payable(connection, A) == 40
        assert holds.payable(connection, "owner:none") == 0
