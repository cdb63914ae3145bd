"""The way in for batches: one at a time, a bounded number waiting, and what became of each counted.

Place in the flow: `POST /v1/batches` hands over how to read the body; `ingest` verifies, settles and commits
in a thread; the projector is told. Does not look into a batch.

Rules kept: past `waiting_max` a batch is refused before any of it is read (503, Retry-After), so that the
batches in memory are bounded; of one gateway OF_ONE_GATEWAY_MAX wait, so that none can keep the others out,
however slowly its bodies come; a busy or full database is 503 with nothing stored, and is remembered as the
`fault` that `/healthz` shows until a batch gets through again.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from starlette.concurrency import run_in_threadpool

from surge_backend.api import problems
from surge_backend.api.faults import problem_of
from surge_backend.api.problems import retry_later
from surge_backend.errors import BackendError
from surge_backend.ingest import Ingest
from surge_backend.metrics import Metrics
from surge_wire.verdicts import ACCEPTED, NAMES

_log = structlog.get_logger("surge.backend.api")

_FAULTS = frozenset(
    (
        problems.STORE_BUSY,
        problems.STORE_LOST,
        problems.STORE_FULL,
        problems.LOG_STOPPED,
        problems.KEY_UNREADABLE,
    )
)


# A gateway sends one batch after the other; the second place is for one that it sends again while the first
# try, whose answer it gave up waiting for, is still at work.
OF_ONE_GATEWAY_MAX = 2


@dataclass(frozen=True)
class Answer:
    """What the gateway gets: `settled_now` is False where the same batch was settled before."""

    body: bytes
    settled_now: bool


class Intake:
    """The one way to `Ingest`. `notify(tree_size)` tells of a new entry."""

    def __init__(
        self,
        ingest: Ingest,
        metrics: Metrics,
        notify: Callable[[int], None],
        *,
        now_ms: Callable[[], int],
        waiting_max: int,
        retry_after_s: int,
    ) -> None:
        self._ingest = ingest
        self._metrics = metrics
        self._notify = notify
        self._now_ms = now_ms
        self._waiting_max = waiting_max
        self._retry_after_s = retry_after_s
        # One at a time: the database has one writer, and waiting here costs no thread.
        self._turn = asyncio.Lock()
        self._waiting: Counter[str] = Counter()
        self._fault = ""

    @property
    def waiting(self) -> int:
        """Batches being read, waiting, or in work."""
        return self._waiting.total()

    @property
    def fault(self) -> str:
        """Why the last batch couldn't be stored; empty if it could."""
        return self._fault

    async def submit(self, gateway_id: str, read_body: Callable[[], Awaitable[bytes]]) -> Answer:
        """Settle the batch of `gateway_id`. Raises Problem, or the core's errors."""
        if self.waiting >= self._waiting_max:
            raise self._overloaded(f"{self._waiting_max} batches wait already")
        if self._waiting[gateway_id] >= OF_ONE_GATEWAY_MAX:
            raise self._overloaded(f"{OF_ONE_GATEWAY_MAX} batches of this gateway wait already")
        self._waiting[gateway_id] += 1
        try:
            envelope = await read_body()
            async with self._turn:
                return await self._settle(gateway_id, envelope)
        finally:
            self._waiting[gateway_id] -= 1
            if not self._waiting[gateway_id]:
                del self._waiting[gateway_id]

    def _overloaded(self, detail: str) -> problems.Problem:
        self._metrics.batch(problems.OVERLOADED.code, 0, 0.0)
        return retry_later(problems.OVERLOADED, detail, self._retry_after_s)

    async def _settle(self, gateway_id: str, envelope: bytes) -> Answer:
        started_s = time.perf_counter()
        try:
            result = await run_in_threadpool(self._ingest.submit, gateway_id, envelope, self._now_ms())
        except BackendError as error:
            problem = problem_of(error, self._retry_after_s)
            kind = problems.INTERNAL if problem is None else problem.kind
            if kind in _FAULTS:
                self._fault = f"{kind.code}: the last batch was not stored"
            self._metrics.batch(kind.code, len(envelope), time.perf_counter() - started_s)
            raise
        self._fault = ""
        outcome = "settled" if result.is_new else "repeated"
        self._metrics.batch(outcome, len(envelope), time.perf_counter() - started_s)
        if result.is_new:
            counted = Counter(result.settlement.verdicts())
            for code, count in counted.items():
                self._metrics.reports(NAMES[code], count)
            rejected = {NAMES[code]: count for code, count in counted.items() if code != ACCEPTED}
            if rejected:
                _log.warning(
                    "reports_rejected", gateway_id=gateway_id, log_index=result.log_index, **rejected
                )
            self._notify(result.log_index + 1)
        return Answer(result.answer, result.is_new)
