"""Sends sealed batches, oldest first, one at a time, and forgets one only on a receipt that verifies.

Place in the flow: after `batcher`; the store deletes what `confirm` covers. Does not make batches. Rules
kept: nothing is ever dropped; no answer, 5xx and 429 are tried again for ever with full jitter and a cap; a
refusal or a receipt that doesn't verify stops sending, is said loudly, and is tried again slowly, since it
needs a person; before the first batch of a run, and after a refusal, the backend is asked where it sees our
chain.

413 for a sealed batch: its seq has its content for ever, so it is not cut anew (a second content under one
seq is what a forger would make). Later batches are made half as large, and this one waits until the limit
in front of the backend is raised.
"""

import asyncio
import hashlib
from collections.abc import Callable

import structlog

from surge_gateway.backend_client import AnswerInvalid, BackendClient, Refusal, Unavailable
from surge_gateway.backoff import Backoff
from surge_gateway.chain import SealedBatch
from surge_gateway.clock import Clock
from surge_gateway.commit import OnDisk
from surge_gateway.counters import Counters
from surge_gateway.errors import ChainError
from surge_gateway.log_watch import LogWatch, Tree
from surge_gateway.store import Store
from surge_wire.ed25519 import verifier
from surge_wire.errors import DecodeError
from surge_wire.submission import verify_submission

log = structlog.get_logger()

WAITING = "waiting for the backend"  # not answered yet in this run
SENDING = "sending"
UNAVAILABLE = "backend unavailable"
HALTED = "halted"

REMEDIES = {
    401: "the token is unknown, expired or revoked: put a new one for this gateway into api.token in its "
    "state_dir, as `surge backend token --role gateway` makes it; it is read again by itself",
    403: "the gateway is revoked, or another gateway's token is in use: ask the backend's operator",
    404: "[backend] url leads to something that is not a Surge backend",
    409: "another machine may run under this identity: stop it, or enrol this one anew",
    413: "raise the body limit in front of the backend to the batch's length",
}


class Uplink:
    """`run` until cancelled; `poke` when a batch was sealed. `state` is one of the four above."""

    def __init__(
        self,
        client: BackendClient,
        store: Store,
        watch: LogWatch,
        gateway_id: str,
        log_public_key: bytes,
        on_disk: OnDisk,
        clock: Clock,
        counters: Counters,
        backoff: Backoff,
        *,
        refused_retry_s: float,
        changed: Callable[[], None],
        too_large: Callable[[SealedBatch], None],
    ) -> None:
        self._client = client
        self._store = store
        self._watch = watch
        self._gateway_id = gateway_id
        self._log_public_key = log_public_key
        self._verify = verifier(log_public_key)
        self._on_disk = on_disk
        self._clock = clock
        self._counters = counters
        self._backoff = backoff
        self._refused_retry_s = refused_retry_s
        self._changed = changed
        self._too_large = too_large
        self._wake = asyncio.Event()
        self._attempt = 0
        self._too_large_seq = -1
        self.state = WAITING
        self.last_error = ""

    def poke(self) -> None:
        """A batch may be there to be sent."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled.

        Raises ChainError if this state_dir and the backend don't fit together at the start.
        """
        first = True
        while True:
            try:
                if not self._store.reconciled:
                    await self._reconcile()
                    first = False
                self._wake.clear()
                if self._store.oldest() is None:
                    await self._wake.wait()
                    continue
                await self.send_oldest()
            except Unavailable as error:
                await self._wait_for_backend(error)
            except ChainError as error:
                if first:
                    raise
                await self._halt(error.what, error.remedy)
            except Refusal as error:
                self._note_too_large(error)
                # ours first: it knows where a gateway's operator has to look
                await self._halt(
                    error.said, REMEDIES.get(error.status, "") or error.remedy or "see the backend's log"
                )
            except AnswerInvalid as error:
                await self._halt(
                    str(error), "check [backend] url, or ask its operator; keep this log line as evidence"
                )
            except OSError as error:
                await self._wait_for_disk(error)

    def _note_too_large(self, error: Refusal) -> None:
        batch = self._store.oldest()
        if error.status == 413 and batch is not None and batch.seq != self._too_large_seq:
            self._too_large_seq = batch.seq  # once for each batch, however often it is tried
            self._too_large(batch)

    async def _reconcile(self) -> None:
        state = await self._client.own_state()
        if state.gateway_id != self._gateway_id:
            raise ChainError(
                f"the token is that of {state.gateway_id}, this state_dir is {self._gateway_id}'s",
                "put this gateway's own token in its token file",
            )
        if state.log_public_key != self._log_public_key:
            raise ChainError(
                "the backend's log has another key than the one pinned at enrolment",
                "ask the backend's operator; if the change is meant, enrol this gateway anew",
            )
        await self._on_disk(lambda: self._store.reconcile(state.next_batch_seq, state.previous))
        self._answered()
        log.info("chain_reconciled", next_seq=state.next_batch_seq, sealed=self._store.sealed_count)
        self._changed()

    async def send_oldest(self) -> bool:
        """Send the oldest batch and confirm it; False where there is none. Raises what stands in the way."""
        batch = self._store.oldest()
        if batch is None:
            return False
        if self._watch.alarm:
            raise AnswerInvalid(f"the log is not to be trusted: {self._watch.alarm}")
        self._counters.batches_sent += 1
        answer = await self._client.submit(batch.envelope)
        self._check(batch, answer)
        await self._on_disk(lambda: self._store.confirm(batch))
        self._answered()
        self._counters.batches_confirmed += 1
        self._counters.reports_confirmed += batch.taken_count
        log.debug("batch_confirmed", seq=batch.seq, reports=batch.taken_count)
        self._changed()
        return True

    def _check(self, batch: SealedBatch, answer: bytes) -> None:
        """Raises AnswerInvalid unless the log vouches for a settlement of exactly this batch."""
        batch_hash = hashlib.sha256(batch.envelope).digest()
        try:
            _settlement, _index, size, root = verify_submission(
                answer, batch_hash, self._gateway_id, batch.seq, batch.report_count, self._verify
            )
        except DecodeError as error:
            self._counters.receipts_refused += 1
            raise AnswerInvalid(f"receipt for batch {batch.seq} is not valid: {error.reason}") from error
        if not self._watch.observe(Tree(size, root)):
            self._counters.receipts_refused += 1
            raise AnswerInvalid(f"receipt for batch {batch.seq}: {self._watch.alarm}")

    def _answered(self) -> None:
        self._attempt = 0
        self.state = SENDING
        self.last_error = ""

    async def _wait_for_backend(self, error: Unavailable) -> None:
        if self.state != UNAVAILABLE:
            log.warning("backend_unavailable", reason=str(error), consequence="reports wait in the spool")
        self.state = UNAVAILABLE
        self.last_error = str(error)
        await self._clock.sleep(self._backoff.delay_s(self._attempt, error.retry_after_s))
        self._attempt += 1

    async def _halt(self, what: str, remedy: str) -> None:
        self.state = HALTED
        self.last_error = f"{what}; {remedy}"
        log.error(
            "uplink_halted",
            what=what,
            remedy=remedy,
            kept="everything",
            retry_s=self._refused_retry_s,
        )
        await self._on_disk(self._store.unreconcile)
        await self._clock.sleep(self._refused_retry_s)

    async def _wait_for_disk(self, error: OSError) -> None:
        self.last_error = f"state: {error.strerror}"
        log.error("state_not_writable", error=error.strerror, remedy="free disk space; it is tried again")
        await self._clock.sleep(self._backoff.delay_s(self._attempt))
        self._attempt += 1
