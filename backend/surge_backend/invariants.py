"""The invariants of the architecture page that a database can show, checked from what is stored.

Place in the flow: ``surge backend check``, the demo's last line and tests run these. While batches are
settled, the same rules are kept by ``ingest``, ``ledger`` and ``log``, which raise rather than assert.

Does not: repair. Each check gives its violations in words; an empty list means that it holds.

| name                    | invariant                                                             |
|-------------------------|-----------------------------------------------------------------------|
| acknowledged_once       | 1: every report named is accepted once or rejected with a reason, and |
|                         | no batch lost one                                                     |
| ledger_sums_to_zero     | 2: balances, transfers and entries agree, and sum to zero             |
| no_negative_balances    | 2: no account but those marked so is below zero                       |
| transfers_deterministic | 3: ids and legs of all transfers follow from the settlements          |
| log_consistent          | 4: every node and every signed head follows from the settlements      |
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from sqlalchemy import Connection, func, select

from surge_backend.db.bulk import select_by_keys
from surge_backend.db.engine import Database
from surge_backend.db.schema import batch_digests, batches, entries, rejections, transfers
from surge_backend.ingest import places
from surge_backend.ingest.check import check_accepted
from surge_backend.ledger.check import check_ledger, negative_accounts
from surge_backend.ledger.posting import BATCH, content_hash, transfer_id
from surge_backend.log.check import check_log
from surge_backend.verify.judging import ReportName
from surge_backend.verify.reading import DIGEST_LEN
from surge_wire.errors import DecodeError
from surge_wire.settlement import decode_settlement

QUICK_TAIL: Final = 1_000  # batches that a quick check recomputes
VIOLATIONS_MAX: Final = 20  # of each invariant


def check_invariants(
    database: Database, verify: Callable[[bytes, bytes], bool], *, quick: bool = False
) -> dict[str, list[str]]:
    """Check all in one snapshot; ``verify`` is the log's. ``quick`` recomputes the last QUICK_TAIL batches
    only."""
    with database.read() as connection:
        return check_all(connection, verify, tail=QUICK_TAIL if quick else None)


def check_all(
    connection: Connection,
    verify: Callable[[bytes, bytes], bool] | None = None,
    acknowledged: Iterable[ReportName] = (),
    tail: int | None = None,
) -> dict[str, list[str]]:
    """Violations by invariant. ``acknowledged``: reports that a gateway acknowledged, of settled batches."""
    size = connection.execute(select(func.count()).select_from(batches)).scalar_one()
    start = 0 if tail is None else max(0, size - tail)
    negative = negative_accounts(connection)
    return {
        "acknowledged_once": _first(_acknowledged(connection, acknowledged, start)),
        "ledger_sums_to_zero": [text for text in check_ledger(connection) if text not in negative],
        "no_negative_balances": negative,
        "transfers_deterministic": _first(_transfers(connection, start)),
        "log_consistent": check_log(connection, verify, tail),
    }


def _first(violations: Iterator[str]) -> list[str]:
    return list(islice(violations, VIOLATIONS_MAX))


def _acknowledged(connection: Connection, names: Iterable[ReportName], start: int) -> Iterator[str]:
    keys = set(names)
    sql = "SELECT device_id, boot, seq FROM rejections WHERE (device_id, boot, seq) IN ({keys})"
    found = {(row[0], row[1], row[2]) for row in select_by_keys(connection, sql, keys)}
    found |= places.find(connection, keys).keys()
    for device_id, boot, seq in sorted(keys - found):
        yield f"report {seq} of boot {boot} of {device_id} is acknowledged, neither accepted nor rejected"
    accepted: Counter[int] = Counter()
    yield from check_accepted(connection, accepted, start)
    count = select(rejections.c.log_index, func.count()).where(rejections.c.log_index >= start)
    rejected = {row[0]: row[1] for row in connection.execute(count.group_by(rejections.c.log_index))}
    for row in connection.execute(
        select(
            batches.c.log_index,
            batches.c.report_count,
            batches.c.accepted_count,
            func.length(batch_digests.c.digests).label("digests_len"),
        )
        .outerjoin(batch_digests, batch_digests.c.log_index == batches.c.log_index)
        .where(batches.c.log_index >= start)
    ):
        stored, refused = accepted[row.log_index], rejected.get(row.log_index, 0)
        if stored != row.accepted_count or stored + refused != row.report_count:
            yield (
                f"batch {row.log_index} had {row.report_count} reports, {row.accepted_count} accepted;"
                f" {stored} accepted and {refused} rejected ones are stored"
            )
        if row.digests_len != DIGEST_LEN * row.report_count:
            yield f"batch {row.log_index} had {row.report_count} reports, and not as many digests are stored"


def _transfers(connection: Connection, start: int) -> Iterator[str]:
    posted = {
        row.id: row
        for row in connection.execute(
            select(transfers.c.id, transfers.c.content_hash, transfers.c.log_index).where(
                transfers.c.kind == BATCH, transfers.c.log_index >= start
            )
        )
    }
    owed: Counter[str] = Counter()
    entries_of_log = (
        select(batches.c.log_index, batches.c.hash, batches.c.settlement)
        .where(batches.c.log_index >= start)
        .order_by(batches.c.log_index)
        .execution_options(yield_per=500)
    )
    with connection.execute(entries_of_log) as rows:
        for row in rows:
            try:
                settlement = decode_settlement(row.settlement)
            except DecodeError as error:
                yield f"the settlement of batch {row.log_index} can't be read: {error}"
                continue
            if settlement.batch_hash != row.hash:
                yield f"the settlement of batch {row.log_index} is about another batch"
            if not settlement.credits:
                continue
            owed.update(dict(settlement.credits))
            transfer = posted.pop(transfer_id(BATCH, row.hash), None)
            if transfer is None:
                yield f"batch {row.log_index} credits accounts and has no transfer"
            elif transfer.log_index != row.log_index:
                yield f"the transfer of batch {row.log_index} says that it is of batch {transfer.log_index}"
            elif transfer.content_hash != content_hash(BATCH, row.hash, settlement.credits):
                yield f"the transfer of batch {row.log_index} moves something else than its settlement says"
    for transfer in posted.values():
        yield f"transfer {transfer.id.hex()} is of no batch"
    moved = connection.execute(
        select(entries.c.account_id, func.sum(entries.c.amount))
        .join(transfers, transfers.c.id == entries.c.transfer_id)
        .where(transfers.c.kind == BATCH, transfers.c.log_index >= start)
        .group_by(entries.c.account_id)
    )
    paid = {row[0]: row[1] for row in moved}
    for account in sorted(owed.keys() | paid.keys()):
        if owed[account] != paid.get(account, 0):
            yield f"settlements credit {account} with {owed[account]}, the ledger has {paid.get(account, 0)}"
