"""Closes batches: by count, bytes or age, or at the end of each window.

Place in the flow: `commit` says when reports became durable; this decides when the store seals the next
batch; `uplink` sends what is sealed. Does not send. Rules kept: at most `store.SEALED_MAX` batches are
sealed ahead of the receipts, the backlog stays in the spool and makes full batches later; a disk that fails
is tried again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from surge_gateway.backoff import Backoff
from surge_gateway.clock import Clock
from surge_gateway.commit import OnDisk
from surge_gateway.counters import Counters
from surge_gateway.cut import CutLimits, Cutter
from surge_gateway.store import SEALED_MAX, Store

log = structlog.get_logger()

NOT_DUE_S = 3600.0  # how long to wait at most for something to change


@dataclass(frozen=True)
class ClosingRules:
    """`window_ms` 0: no windows, `age_ms` counts."""

    limits: CutLimits
    age_ms: int
    window_ms: int = 0

    def due_in_ms(self, count: int, length: int, from_ms: int, now_ms: int) -> int:
        """How long until a batch of `count` reports, the first from `from_ms`, is to be closed; 0 is now."""
        full = count >= self.limits.reports_max or length >= self.limits.bytes_max
        if full and not self.window_ms:
            return 0
        if now_ms < from_ms:  # the clock was set back
            return 0
        if self.window_ms:
            return max(0, (from_ms // self.window_ms + 1) * self.window_ms - now_ms)
        return max(0, from_ms + self.age_ms - now_ms)


class Batcher:
    """`run` until cancelled; `poke` whenever reports, receipts or the chain changed."""

    def __init__(
        self,
        store: Store,
        rules: ClosingRules,
        cutter: Cutter,
        gateway_id: str,
        sign: Callable[[bytes], bytes],
        on_disk: OnDisk,
        clock: Clock,
        counters: Counters,
        backoff: Backoff,
        *,
        sealed: Callable[[], None],
    ) -> None:
        self._store = store
        self.rules = rules
        self._cutter = cutter
        self._gateway_id = gateway_id
        self._sign = sign
        self._on_disk = on_disk
        self._clock = clock
        self._counters = counters
        self._backoff = backoff
        self._sealed = sealed
        self._wake = asyncio.Event()
        self.last_error = ""

    def poke(self) -> None:
        """Look again whether a batch is due."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            due_s = self._due_s()
            if due_s == 0:
                await self.seal()
            else:
                await self._clock.wait(self._wake, due_s)

    def _due_s(self) -> float:
        store = self._store
        from_ms = store.waiting_from_ms
        if not store.reconciled or store.sealed_count >= SEALED_MAX or from_ms is None:
            return NOT_DUE_S
        now_ms = self._clock.now_ms()
        return self.rules.due_in_ms(store.waiting_count, store.waiting_bytes, from_ms, now_ms) / 1000

    async def seal(self) -> bool:
        """Seal the next batch now; False where there is nothing to seal or it may not be."""
        attempt = 0
        while True:
            try:
                batch = await self._on_disk(
                    lambda: self._store.seal(
                        self._cutter, self.rules.limits, self._clock.now_ms(), self._gateway_id, self._sign
                    )
                )
            except OSError as error:
                self.last_error = f"sealing: {error.strerror}"
                log.error(
                    "batch_not_sealed", error=error.strerror, remedy="free disk space; it is tried again"
                )
                await self._clock.sleep(self._backoff.delay_s(attempt))
                attempt += 1
                continue
            self.last_error = ""
            if batch is None:
                return False
            self._counters.batches_sealed += 1
            log.debug("batch_sealed", seq=batch.seq, reports=batch.taken_count, len=len(batch.envelope))
            self._sealed()
            return True
