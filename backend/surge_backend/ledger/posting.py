"""Double entry: a transfer is posted whole or not at all, and once.

Place in the flow: ``ingest`` posts one transfer a batch, in the transaction that also stores verdicts and
the log entry; later payouts post theirs the same way.

Does not: begin or commit a transaction, decide who is owed what, keep a clock.

Rules it keeps:

* a transfer's id is made from what it is for, before it is attempted. The same id with the same content is a
  no-op, with other content LedgerConflict (invariant 3);
* amounts are integers within +-AMOUNT_MAX, none is 0, their sum is 0, an account has one leg; no balance
  leaves +-AMOUNT_MAX, and none goes below zero but where the account is marked so (invariant 2). All of it is
  checked before the first row is written (threat 12);
* rows of transfers and entries are never changed. A balance is the sum of its entries, kept for speed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection

from surge_backend.db.bulk import execute_many, fetch_one, insert_missing, insert_rows, select_by_keys
from surge_backend.db.schema import accounts, entries, transfers
from surge_backend.errors import LedgerConflict, LedgerRefused
from surge_backend.ledger.pricing import (
    ISSUANCE,
    NUMERATORS_PER_MICROCREDIT,
    check_amount,
    owner_account,
)
from surge_wire.limits import HASH_LEN, UINT53_MAX

AMOUNT_MAX: Final = UINT53_MAX  # exact in every JSON reader
LEGS_MAX: Final = 20_002  # surge_wire.limits.SETTLEMENT_ENTRIES_MAX: a settlement lists them all
ACCOUNT_ID_LEN_MAX: Final = 64
KIND_LEN_MAX: Final = 16

BATCH: Final = "batch"
KIND_ISSUANCE: Final = "issuance"
KIND_OWNER: Final = "owner"

_ACCOUNT_COLUMNS: Final = ("id", "kind", "owner_id", "may_go_negative", "balance", "carry")
_ENTRY_COLUMNS: Final = ("transfer_id", "position", "account_id", "amount", "ordinal")
_TRANSFER_COLUMNS: Final = (
    "id",
    "kind",
    "reference",
    "content_hash",
    "log_index",
    "created_ms",
    "ordinal",
)
_CONTENT: Final = "SELECT content_hash FROM transfers WHERE id = {}"
_LAST_ORDINAL: Final = "SELECT coalesce(max(ordinal), 0) FROM transfers"
_BALANCES: Final = "SELECT id, balance, may_go_negative FROM accounts WHERE id IN ({keys})"

Leg = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Transfer:
    """Legs ``(account, micro-credits)`` that sum to zero, for ``reference`` (of a batch: its hash)."""

    kind: str
    reference: bytes
    legs: tuple[Leg, ...]
    created_ms: int
    log_index: int | None = None

    @property
    def id(self) -> bytes:
        """SHA-256 of what the transfer is for."""
        return transfer_id(self.kind, self.reference)

    @property
    def content_hash(self) -> bytes:
        """SHA-256 of what the transfer does; two attempts with one id have to agree on it."""
        return content_hash(self.kind, self.reference, self.legs)


def transfer_id(kind: str, reference: bytes) -> bytes:
    """The deterministic id: ``SHA-256("surge/1 transfer " kind reference)``; a reference is always 32
    bytes.
    """
    return sha256(b"surge/1 transfer " + kind.encode() + reference).digest()


def content_hash(kind: str, reference: bytes, legs: Sequence[Leg]) -> bytes:
    """SHA-256 of the JSON text ``[kind, reference in hex, [[account, amount], ...]]`` without spaces."""
    return sha256(json.dumps([kind, reference.hex(), legs], separators=(",", ":")).encode()).digest()


def check_transfer(transfer: Transfer) -> None:
    """Everything that can be checked without balances. Raises LedgerRefused."""
    if type(transfer.reference) is not bytes or len(transfer.reference) != HASH_LEN:
        raise LedgerRefused("a transfer's reference is a hash of 32 bytes")
    if type(transfer.kind) is not str or not 0 < len(transfer.kind) <= KIND_LEN_MAX:
        raise LedgerRefused(f"a transfer's kind is 1 to {KIND_LEN_MAX} characters")
    check_amount("created_ms", transfer.created_ms, 0, UINT53_MAX)
    if transfer.log_index is not None:
        check_amount("log_index", transfer.log_index, 0, UINT53_MAX)
    if not 2 <= len(transfer.legs) <= LEGS_MAX:
        raise LedgerRefused(f"a transfer has 2 to {LEGS_MAX} legs, not {len(transfer.legs)}")
    total = 0
    previous = ""
    for account, amount in transfer.legs:
        if type(account) is not str or not 0 < len(account) <= ACCOUNT_ID_LEN_MAX:
            raise LedgerRefused(f"an account's id is 1 to {ACCOUNT_ID_LEN_MAX} characters")
        if account <= previous:
            raise LedgerRefused(f"legs are sorted and an account has one: {account} follows {previous}")
        previous = account
        check_amount(f"the amount for {account}", amount, -AMOUNT_MAX, AMOUNT_MAX)
        if amount == 0:
            raise LedgerRefused(f"the amount for {account} is 0")
        total += amount
    if total != 0:
        raise LedgerRefused(f"the legs sum to {total}, not to zero")


def open_issuance(connection: Connection) -> None:
    """Make the account that credits come from, the one that may go negative. Harmless when it is there."""
    insert_missing(connection, accounts, _ACCOUNT_COLUMNS, [(ISSUANCE, KIND_ISSUANCE, None, True, 0, 0)])


def open_owner_accounts(connection: Connection, owner_ids: Sequence[str]) -> None:
    """Make the accounts of these owners; those that are there stay as they are."""
    rows = [(owner_account(owner), KIND_OWNER, owner, False, 0, 0) for owner in owner_ids]
    insert_missing(connection, accounts, _ACCOUNT_COLUMNS, rows)


def post(connection: Connection, transfer: Transfer) -> bool:
    """Post ``transfer``: True if it is new, False if it was posted before with the same content.

    Raises LedgerRefused or LedgerConflict, before anything is written.
    """
    check_transfer(transfer)
    identity = transfer.id
    digest = transfer.content_hash
    stored = fetch_one(connection, _CONTENT, identity)
    if stored is not None:
        if stored[0] != digest:
            raise LedgerConflict(f"transfer {identity.hex()} is posted already, with other content")
        return False
    balances = _new_balances(connection, transfer.legs)
    ordinal = fetch_one(connection, _LAST_ORDINAL)[0] + 1
    insert_rows(
        connection,
        transfers,
        _TRANSFER_COLUMNS,
        [
            (
                identity,
                transfer.kind,
                transfer.reference,
                digest,
                transfer.log_index,
                transfer.created_ms,
                ordinal,
            )
        ],
    )
    insert_rows(
        connection,
        entries,
        _ENTRY_COLUMNS,
        [(identity, i, account, amount, ordinal) for i, (account, amount) in enumerate(transfer.legs)],
    )
    _set_column(connection, "balance", balances)
    return True


def set_carries(connection: Connection, carries: dict[str, int]) -> None:
    """Keep the dust of accounts, as ``pricing`` left it.

    Raises LedgerRefused: before anything is written for what is no dust; for an account that is not there,
    after which the transaction has to be rolled back.
    """
    for account, carry in carries.items():
        check_amount(f"the carry of {account}", carry, 0, NUMERATORS_PER_MICROCREDIT - 1)
    changed = _set_column(connection, "carry", carries)
    if changed != len(carries):
        raise LedgerRefused(f"{len(carries) - changed} accounts with dust are not there")


def _new_balances(connection: Connection, legs: Sequence[Leg]) -> dict[str, int]:
    stored: dict[str, Any] = {
        row[0]: row for row in select_by_keys(connection, _BALANCES, [(account,) for account, _ in legs])
    }
    balances = {}
    for account, amount in legs:
        row = stored.get(account)
        if row is None:
            raise LedgerRefused(f"no account {account}; open it before a transfer names it")
        balance = row[1] + amount
        if balance < 0 and not row[2]:
            raise LedgerRefused(f"{account} has {row[1]} micro-credits and would go below zero by {amount}")
        check_amount(f"the new balance of {account}", balance, -AMOUNT_MAX, AMOUNT_MAX)
        balances[account] = balance
    return balances


def _set_column(connection: Connection, column: str, values: dict[str, int]) -> int:
    """Gives how many accounts it changed."""
    return execute_many(
        connection,
        f"UPDATE accounts SET {column} = {{}} WHERE id = {{}}",  # noqa: S608
        [(value, account) for account, value in values.items()],
    )
