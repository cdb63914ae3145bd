"""What the database counts, for everybody's statistics.

Place in the flow: `system` shows it, `app` makes the one cache. Rule kept: counts are at most COUNTS_AGE_S
old and cost the same however many ask.
"""

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool

from surge_backend.db.engine import Database
from surge_backend.db.schema import accounts, device_totals, devices, gateways, log_heads, rejections
from surge_backend.ledger.pricing import ISSUANCE

COUNTS_AGE_S = 0.5


@dataclass(frozen=True)
class Counts:
    """What the database counts."""

    devices: int
    gateways: int
    batches: int
    reports_accepted: int
    reports_rejected: int
    credited_microcredits: int


def read_counts(database: Database) -> Counts:
    """Count. Cheap: sums over devices, not over reports or batches."""
    with database.read() as connection:

        def one(query: object) -> int:
            return int(connection.execute(query).scalar() or 0)  # type: ignore[call-overload]

        return Counts(
            devices=one(select(func.count()).select_from(devices)),
            gateways=one(select(func.count()).select_from(gateways)),
            batches=one(select(func.max(log_heads.c.tree_size))),
            reports_accepted=one(select(func.sum(device_totals.c.reports))),
            reports_rejected=one(select(func.count()).select_from(rejections)),
            credited_microcredits=-one(select(accounts.c.balance).where(accounts.c.id == ISSUANCE)),
        )


class CountsCache:
    """Counts at most COUNTS_AGE_S old, counted by one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = asyncio.Lock()
        self._counts: Counts | None = None
        self._counted_s = 0.0

    async def get(self) -> Counts:
        """The counts."""
        async with self._lock:
            if self._counts is None or time.monotonic() - self._counted_s > COUNTS_AGE_S:
                self._counts = await run_in_threadpool(read_counts, self._database)
                self._counted_s = time.monotonic()
            return self._counts
