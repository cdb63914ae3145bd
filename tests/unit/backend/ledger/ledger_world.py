"""A real ledger on a real database file beside a model of a few dictionaries, driven by one `Random`.

Hypothesis hands in a `Random` whose choices it records and shrinks, the long walk a seeded one; the
operations, the model and the checks are the same. The model shares no code with the ledger: it knows what
double entry means, and says before each operation what has to come of it.
"""

import decimal
import functools
import hashlib
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection, func, insert, select, update

from surge_backend.db import migrations
from surge_backend.db.engine import open_engine
from surge_backend.db.schema import accounts, device_totals, devices, entries, owners, transfers
from surge_backend.errors import LedgerConflict, LedgerRefused, StoreBusy
from surge_backend.ledger import holds, tariffs
from surge_backend.ledger.check import check_ledger
from surge_backend.ledger.posting import (
    LEGS_MAX,
    Transfer,
    open_issuance,
    open_owner_accounts,
    post,
    set_carries,
)
from surge_backend.ledger.pricing import Tariff, Work, price_batch

from .ledger_model import AMOUNT_MAX, NUMERATORS, Legs, Model

OWNERS_MAX: Final = 12
REMEMBERED: Final = 500  # transfers to repeat and to contradict
NOT_INTEGERS: Final = (1.0, 0.5, float("nan"), float("inf"), True, None, "1", decimal.Decimal(1), b"1")
OUT_OF_BOUNDS: Final = (AMOUNT_MAX + 1, -AMOUNT_MAX - 1, 1 << 63, -(1 << 63), 1 << 64, 10**30)


class GaveUp(Exception):
    """Raised inside a transaction, so that it is rolled back."""


@functools.cache
def empty_ledger() -> bytes:
    """A database file with every table, the issuance account and no more."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "empty.db")
        database = open_engine(str(path))
        migrations.upgrade(database)
        with database.write() as connection:
            open_issuance(connection)
        database.close()
        assert not path.with_name("empty.db-wal").exists()
        return path.read_bytes()


class LedgerWorld:
    """The ledger and its model; each method is one operation and checks what came of it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "ledger.db"
        self.path.write_bytes(empty_ledger())
        self.database = open_engine(str(self.path))
        self.model = Model()
        self.transaction: Any = None
        self.connection: Connection | None = None
        self.now_ms = 1_000
        self.references = 0
        self.remembered: list[tuple[str, bytes, Legs]] = []
        self.counts: dict[str, int] = {}

    def close(self) -> None:
        self.end(commit=True)
        self.database.close()
        shutil.rmtree(self.folder)

    # --- transactions -----------------------------------------------------------------------------------

    def begin(self) -> Connection:
        """The open transaction, or a new one."""
        if self.connection is None:
            self.transaction = self.database.write()
            self.connection = self.transaction.__enter__()
            self.model.begin()
        return self.connection

    def end(self, *, commit: bool) -> None:
        if self.connection is None:
            return
        self.connection = None
        if commit:
            self.transaction.__exit__(None, None, None)
            self.model.commit()
        else:
            self.transaction.__exit__(GaveUp, GaveUp(), None)
            self.model.rollback()

    def reopen(self) -> None:
        self.end(commit=True)
        self.database.close()
        self.database = open_engine(str(self.path))

    def look_from_elsewhere(self) -> None:
        """Another process: it sees what is committed, and can't write while a transaction is open."""
        other = open_engine(str(self.path), busy_timeout_ms=1)
        try:
            with other.read() as connection:
                assert stored_balances(connection) == self.model.committed_balances
            if self.connection is not None:
                with pytest.raises(StoreBusy), other.write() as connection:
                    open_owner_accounts(connection, [])
            else:
                with other.write() as connection:  # and can, when none is
                    open_issuance(connection)
        finally:
            other.close()

    # --- operations -------------------------------------------------------------------------------------

    def open_account(self, rng: random.Random) -> None:
        """A new owner with an account and a device, or one that is there."""
        connection = self.begin()
        owner = owner_name(rng.randint(1, OWNERS_MAX))
        account = "owner:" + owner
        if account not in self.model.balances:
            connection.execute(insert(owners).values(id=owner, name="", created_ms=0))
            connection.execute(insert(devices).values(device_row(owner)))
            connection.execute(insert(device_totals).values(totals_row("d" + owner[1:])))
        open_owner_accounts(connection, [owner])
        self.model.open(account)

    def transfer(self, rng: random.Random) -> None:
        """Legs of any kind, mostly sound; the model says what has to come of them."""
        legs = self.some_legs(rng)
        if rng.random() < 0.3:
            legs = spoiled(rng, legs)
        self.attempt("batch", self.new_reference(), legs, rng.choice([0, 1, self.now_ms, AMOUNT_MAX]))

    def overdraw(self, rng: random.Random) -> None:
        """One micro-credit more than an account has, or than it may have."""
        names = sorted(self.model.balances.keys() - {"issuance"})
        if not names:
            return
        account = rng.choice(names)
        balance = self.model.balances[account]
        amount = rng.choice([-balance - 1, -balance, AMOUNT_MAX - balance, AMOUNT_MAX - balance + 1])
        self.attempt("batch", self.new_reference(), ((account, amount), ("issuance", -amount)), 1)
        self.attempt(
            "batch", self.new_reference(), tuple(sorted([(account, amount), ("issuance", -amount)])), 1
        )

    def again(self, rng: random.Random) -> None:
        """A transfer that was posted, attempted once more, at another time."""
        if self.remembered:
            kind, reference, legs = rng.choice(self.remembered)
            self.attempt(kind, reference, legs, rng.randint(0, AMOUNT_MAX))

    def contradict(self, rng: random.Random) -> None:
        """The id of a posted transfer with other legs, or the same reference as another kind."""
        if self.remembered:
            kind, reference, _ = rng.choice(self.remembered)
            if rng.random() < 0.2:
                kind = "payout" if kind == "batch" else "batch"
            self.attempt(kind, reference, self.some_legs(rng), 1)

    def about_nothing(self, rng: random.Random) -> None:
        """Sound legs for what is no reference, no time, no kind, no place in the log."""
        legs = self.some_legs(rng)
        what: dict[str, Any] = {"kind": "batch", "reference": self.new_reference(), "created_ms": 1}
        field, values = rng.choice(
            [
                ("reference", [b"", bytes(31), bytes(33), "x" * 32, bytearray(32), None]),
                ("created_ms", [-1, AMOUNT_MAX + 1, 1 << 64, *NOT_INTEGERS]),
                ("kind", ["", "k" * 17, None, 5, b"batch"]),
                ("log_index", [-1, 1 << 64, 1.0, True, "1"]),
            ]
        )
        transfer = Transfer(legs=legs, **(what | {field: rng.choice(values)}))
        self.refused(lambda: post(self.begin(), transfer))

    def pay_for_work(self, rng: random.Random) -> None:
        """A batch priced by the tariff in force, paid, its dust carried: all of it or nothing."""
        names = sorted(self.model.balances.keys() - {"issuance"})
        if not names:
            return
        connection = self.begin()
        self.now_ms += rng.randint(0, 1_000)
        tariff = self.model.tariff_at(self.now_ms)
        if tariff is None:
            self.refused(lambda: tariffs.tariff_at(connection, self.now_ms))
            return
        assert tariffs.tariff_at(connection, self.now_ms) == Tariff(*tariff)
        done = [
            (rng.choice(names), rng.choice([0, 1, 7, 640_000]), rng.choice([0, 1, 1_023, 1_024, 4 << 20]))
            for _ in range(rng.randint(0, 3))
        ]
        operator = rng.choice(names)
        carries = {name: self.model.carries[name] for name in names}
        priced = price_batch(Tariff(*tariff), [Work(*item) for item in done], operator, carries)
        credits = self.model.earn(tariff, done, operator)
        assert dict(priced.credits) == credits
        set_carries(connection, priced.carries)
        if not credits:
            return
        reference = self.new_reference()
        legs = tuple(sorted(credits.items()))
        if self.model.verdict("batch", reference, legs, self.now_ms) == "refused":
            self.refused(lambda: post(connection, Transfer("batch", reference, priced.credits, self.now_ms)))
            self.end(commit=False)  # the carries must not stay without their transfer
            return
        self.attempt("batch", reference, legs, self.now_ms)
        for account, _, _ in done:
            device = "d" + account.removeprefix("owner:o")
            self.model.earned[device] = self.model.earned.get(device, 0) + credits.get(account, 0)
            totals = update(device_totals).where(device_totals.c.device_id == device)
            connection.execute(totals.values(microcredits=self.model.earned[device]))

    def spoil_carries(self, rng: random.Random) -> None:
        names = sorted(self.model.balances)
        value = rng.choice([-1, NUMERATORS, 1 << 64, *NOT_INTEGERS])
        sound = dict.fromkeys(rng.sample(names, rng.randint(0, len(names))), 0)
        if rng.random() < 0.8:
            self.refused(lambda: set_carries(self.begin(), sound | {rng.choice(names): value}))
        else:
            with pytest.raises(LedgerRefused):
                set_carries(self.begin(), sound | {"owner:nobody": 1})
            self.end(commit=False)  # as the caller has to

    def new_tariff(self, rng: random.Random) -> None:
        """The next version; one that is not the next, or reaches back, is refused."""
        connection = self.begin()
        version = len(self.model.tariffs) + rng.choice([1, 1, 1, 0, 2])
        valid_from_ms = self.now_ms + rng.choice([0, 500, 0, -1])
        fields = (
            version,
            valid_from_ms,
            rng.choice([0, 1, 10, 1_000_000_000]),
            rng.choice([0, 1, 50, 1_000_000_000]),
            rng.choice([0, 1, 2_000, 3_333, 10_000]),
        )
        if version != len(self.model.tariffs) + 1 or (valid_from_ms < self.now_ms and self.model.tariffs):
            self.refused(lambda: tariffs.add_tariff(connection, Tariff(*fields), self.now_ms))
        else:
            tariffs.add_tariff(connection, Tariff(*fields), self.now_ms)
            self.model.tariffs.append(fields)

    def hold(self, rng: random.Random) -> None:
        names = sorted(self.model.balances.keys() - {"issuance"})
        if names:
            account = rng.choice(names)
            device = "d" + account.removeprefix("owner:o")
            amount = holds.hold_device(self.begin(), device, account, "test", self.now_ms)
            assert amount == self.model.hold(device, account)

    def release(self, rng: random.Random) -> None:
        names = sorted(self.model.balances.keys() - {"issuance"})
        if names:
            device = "d" + rng.choice(names).removeprefix("owner:o")
            assert holds.release_device(self.begin(), device, self.now_ms) == self.model.release(device)

    # --- what they share --------------------------------------------------------------------------------

    def new_reference(self) -> bytes:
        self.references += 1
        return hashlib.sha256(self.references.to_bytes(8, "big")).digest()

    def some_legs(self, rng: random.Random) -> Legs:
        names = sorted(self.model.balances.keys() - {"issuance"})
        moves = {
            name: rng.choice([rng.randint(-100, 200), rng.randint(1, 1_000), rng.choice([1, -1, AMOUNT_MAX])])
            for name in rng.sample(names, rng.randint(0, min(4, len(names))))
        }
        moves = {name: amount for name, amount in moves.items() if amount}
        if total := sum(moves.values()):
            moves["issuance"] = -total
        return tuple(sorted(moves.items()))

    def attempt(self, kind: str, reference: bytes, legs: Legs, created_ms: int) -> None:
        transfer = Transfer(kind, reference, legs, created_ms, log_index=None)
        connection = self.begin()
        expected = self.model.verdict(kind, reference, legs, created_ms)
        self.counts[expected] = self.counts.get(expected, 0) + 1
        if expected == "new":
            assert post(connection, transfer)
            self.model.post(kind, reference, legs)
            identity = hashlib.sha256(b"surge/1 transfer " + kind.encode() + reference).digest()
            found = select(entries.c.account_id, entries.c.amount).where(entries.c.transfer_id == identity)
            assert tuple(tuple(row) for row in connection.execute(found.order_by(entries.c.position))) == legs
            self.remembered.append((kind, reference, legs))
            del self.remembered[:-REMEMBERED]
            return
        before = rows_changed(connection)
        if expected == "repeat":
            assert not post(connection, transfer)
        else:
            with pytest.raises(LedgerConflict if expected == "conflict" else LedgerRefused):
                post(connection, transfer)
        assert rows_changed(connection) == before

    def refused(self, operation: Any) -> None:
        self.counts["refused"] = self.counts.get("refused", 0) + 1
        before = rows_changed(self.begin())
        with pytest.raises(LedgerRefused):
            operation()
        assert rows_changed(self.begin()) == before

    def check_balances(self) -> None:
        """After every operation: the accounts are the model's, sum to zero, and none is below its floor."""
        connection = self.begin()
        rows = connection.execute(select(accounts.c.id, accounts.c.balance, accounts.c.carry)).all()
        assert {row.id: row.balance for row in rows} == self.model.balances
        assert {row.id: row.carry for row in rows} == self.model.carries
        assert sum(row.balance for row in rows) == 0
        assert all(0 <= row.balance <= AMOUNT_MAX for row in rows if row.id != "issuance")

    def check_all(self) -> None:
        """The whole ledger, from its entries."""
        self.check_balances()
        connection = self.begin()
        assert check_ledger(connection) == []
        sums = connection.execute(
            select(entries.c.account_id, func.sum(entries.c.amount)).group_by("account_id")
        )
        assert {name: total for name, total in sums if total} == {
            name: balance for name, balance in self.model.balances.items() if balance
        }
        assert connection.execute(select(func.count()).select_from(transfers)).scalar() == len(
            self.model.posted
        )
        stored = [tuple(row) for row in map(tariff_fields, reversed(tariffs.all_tariffs(connection)))]
        assert stored == self.model.tariffs
        for account in self.model.balances.keys() - {"issuance"}:
            assert holds.held(connection, account) == self.model.held(account)
            free = max(0, self.model.balances[account] - self.model.held(account))
            assert holds.payable(connection, account) == free


def spoiled(rng: random.Random, legs: Legs) -> Any:
    """``legs`` with one thing wrong, or perhaps right after all: the model decides."""
    changed: list[Any] = [list(leg) for leg in legs] or [["issuance", -1], ["owner:nobody", 1]]
    one = rng.choice(changed)
    what = rng.randrange(9)
    if what == 0:
        one[1] = rng.choice(NOT_INTEGERS)
    elif what == 1:
        one[1] += rng.choice([1, -1])
    elif what == 2:
        changed.reverse()
    elif what == 3:
        changed.insert(changed.index(one), list(one))
    elif what == 4:
        one[0] = rng.choice(["owner:nobody", "", "x" * 65, None, 7, "zz"])
    elif what == 5:
        changed.append(["zz", 0])
    elif what == 6:
        del changed[rng.randrange(len(changed)) :]
    elif what == 7:
        one[1] = rng.choice(OUT_OF_BOUNDS)
    elif rng.random() < 0.02:
        changed = [[f"owner:{number:05}", 1] for number in range(LEGS_MAX + 1)]
    return tuple((name, amount) for name, amount in changed)


def owner_name(number: int) -> str:
    return "o" + chr(ord("a") + number) * 16


def tariff_fields(tariff: Tariff) -> tuple[int, ...]:
    return (
        tariff.version,
        tariff.valid_from_ms,
        tariff.sample_microcredits,
        tariff.kib_microcredits,
        tariff.gateway_share_bp,
    )


def stored_balances(connection: Connection) -> dict[str, int]:
    return dict(connection.execute(select(accounts.c.id, accounts.c.balance)).all())


def rows_changed(connection: Connection) -> int:
    """How many rows this connection ever wrote: the same again means that nothing was."""
    return int(connection.connection.dbapi_connection.total_changes)  # type: ignore[union-attr]


def device_row(owner: str) -> dict[str, Any]:
    return {
        "id": "d" + owner[1:],
        "owner_id": owner,
        "name": "",
        "board": "",
        "secret_sealed": b"",
        "mqtt_bcrypt": "",
        "mqtt_pbkdf2_sha512": "",
        "status": "active",
        "revision": ord(owner[1]),
        "created_ms": 0,
    }


def totals_row(device: str) -> dict[str, Any]:
    numbers = ("reports", "samples", "bytes", "microcredits", "carry", "boot_max", "last_report_ms")
    boot = (
        "seq_max",
        "first_seen_ms",
        "last_seen_ms",
        "boot_reports",
        "boot_samples",
        "boot_bytes",
        "gaps_from",
    )
    return {"device_id": device, "recent": b""} | dict.fromkeys(numbers + boot, 0)
