"""Holds: what a frozen device earned stays on its owner's account and can't be paid out until a person
decides.

Place in the flow: ``ingest`` holds when it freezes a device; the registry releases when an administrator
unfreezes it; a payout pays at most ``payable``.

Does not: move money. A hold is a line beside the balance, so the ledger's sums never change by it.
"""

from sqlalchemy import Connection, func, insert, select, update

from surge_backend.db.schema import accounts, device_totals, holds


def held(connection: Connection, account_id: str) -> int:
    """Micro-credits of ``account_id`` that are held now."""
    total = select(func.coalesce(func.sum(holds.c.amount), 0)).where(
        holds.c.account_id == account_id, holds.c.released_ms.is_(None)
    )
    return int(connection.execute(total).scalar_one())


def payable(connection: Connection, account_id: str) -> int:
    """Micro-credits of ``account_id`` that no hold covers; 0 for an account that is not there."""
    balance = connection.execute(select(accounts.c.balance).where(accounts.c.id == account_id)).scalar()
    return max(0, (balance or 0) - held(connection, account_id))


def hold_device(connection: Connection, device_id: str, account_id: str, reason: str, now_ms: int) -> int:
    """Hold what ``device_id`` earned, as far as it is unpaid and not held already; gives the amount, which
    may be 0.
    """
    earned = connection.execute(
        select(device_totals.c.microcredits).where(device_totals.c.device_id == device_id)
    ).scalar()
    amount = min(earned or 0, payable(connection, account_id))
    connection.execute(
        insert(holds).values(
            device_id=device_id, account_id=account_id, amount=amount, reason=reason, created_ms=now_ms
        )
    )
    return amount


def release_device(connection: Connection, device_id: str, now_ms: int) -> int:
    """Release every hold for ``device_id``; gives the micro-credits that are free again."""
    live = (holds.c.device_id == device_id) & holds.c.released_ms.is_(None)
    amount = connection.execute(select(func.coalesce(func.sum(holds.c.amount), 0)).where(live)).scalar_one()
    connection.execute(update(holds).where(live).values(released_ms=now_ms))
    return int(amount)
