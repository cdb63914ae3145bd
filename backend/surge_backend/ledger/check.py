"""Checking the whole ledger from its entries: what ``invariants`` and an auditor run.

Place in the flow: beside it; reads only.

Does not: repair. A violation names the row, so that a person can look.
"""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from surge_backend.db.schema import accounts, entries, transfers
from surge_backend.ledger.posting import AMOUNT_MAX, content_hash, transfer_id
from surge_backend.ledger.pricing import NUMERATORS_PER_MICROCREDIT

VIOLATIONS_MAX: Final = 100  # listed; more say no more


def check_ledger(connection: Connection) -> list[str]:
    """Every broken rule, in words; empty when the ledger is sound."""
    found: list[str] = []
    for violation in _violations(connection):
        found.append(violation)
        if len(found) == VIOLATIONS_MAX:
            found.append(f"and perhaps more: {VIOLATIONS_MAX} are listed")
            break
    return found


def negative_accounts(connection: Connection) -> list[str]:
    """Accounts below zero that may not be."""
    rows = connection.execute(
        select(accounts.c.id, accounts.c.balance).where(
            accounts.c.balance < 0, accounts.c.may_go_negative.is_(False)
        )
    )
    return [f"account {row.id} is at {row.balance} and may not go below zero" for row in rows]


def _violations(connection: Connection) -> Iterator[str]:
    total = connection.execute(select(func.coalesce(func.sum(accounts.c.balance), 0))).scalar_one()
    if total != 0:
        yield f"balances sum to {total}, not to zero"
    yield from negative_accounts(connection)
    yield from _accounts(connection)
    yield from _transfers(connection)


def _accounts(connection: Connection) -> Iterator[str]:
    sums = dict(
        connection.execute(
            select(entries.c.account_id, func.sum(entries.c.amount)).group_by(entries.c.account_id)
        ).all()
    )
    for row in connection.execute(select(accounts.c.id, accounts.c.balance, accounts.c.carry)):
        for name, value in (("balance", row.balance), ("carry", row.carry)):
            if type(value) is not int:
                yield f"account {row.id}: {name} is {value!r}, not an integer"
                return
        if row.balance != sums.get(row.id, 0):
            yield f"account {row.id} has {row.balance}, its entries sum to {sums.get(row.id, 0)}"
        if abs(row.balance) > AMOUNT_MAX or not 0 <= row.carry < NUMERATORS_PER_MICROCREDIT:
            yield f"account {row.id}: balance {row.balance} or carry {row.carry} is out of bounds"


def _transfers(connection: Connection) -> Iterator[str]:
    """Both tables in one order, so that memory holds one transfer at a time."""
    all_legs = (
        select(entries.c.ordinal, entries.c.transfer_id, entries.c.account_id, entries.c.amount)
        .order_by(entries.c.ordinal, entries.c.transfer_id, entries.c.position)
        .execution_options(yield_per=1_000)
    )
    all_heads = select(transfers).order_by(transfers.c.ordinal).execution_options(yield_per=1_000)
    with connection.execute(all_legs) as legs, connection.execute(all_heads) as heads:
        leg = legs.fetchone()
        for head in heads:
            own = []
            while leg is not None and leg.transfer_id == head.id and leg.ordinal == head.ordinal:
                own.append((leg.account_id, leg.amount))
                leg = legs.fetchone()
            yield from _transfer(head, own)
        if leg is not None:
            yield f"entries of transfer {leg.transfer_id.hex()} belong to no transfer in their order"


def _transfer(head: Row[Any], own: list[tuple[str, int]]) -> Iterator[str]:
    name = f"transfer {head.id.hex()}"
    if sum(amount for _, amount in own) != 0 or len(own) < 2:
        yield f"{name}: its {len(own)} entries sum to {sum(amount for _, amount in own)}"
    if head.id != transfer_id(head.kind, head.reference):
        yield f"{name}: its id doesn't follow from what it is for"
    if head.content_hash != content_hash(head.kind, head.reference, own):
        yield f"{name}: its entries are not those that were posted"
