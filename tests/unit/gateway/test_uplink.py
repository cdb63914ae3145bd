"""The uplink against a backend behind real HTTP: nothing is forgotten without a receipt that verifies
(threat 10).
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_backend import BackendState, Log
from gateway_clock import FakeClock
from gateway_files import SimulatedFiles
from gateway_http import GATEWAY_ID, TOKEN, TestBackend, running_backend
from gateway_reports import make_device

from surge_gateway.backend_client import BackendClient
from surge_gateway.backoff import Backoff
from surge_gateway.chain import SealedBatch
from surge_gateway.counters import Counters
from surge_gateway.cut import CutLimits, cut_verbatim
from surge_gateway.errors import ChainError
from surge_gateway.log_watch import LogWatch, Tree
from surge_gateway.store import open_store
from surge_gateway.uplink import HALTED, SENDING, UNAVAILABLE, Uplink
from surge_wire.ed25519 import public_key, signer
from surge_wire.settlement import Settlement, encode_settlement
from surge_wire.submission import encode_submission

SEED = b"g" * 32
FOLDER = Path("state")
LIMITS = CutLimits(2, 10_000)


class Rig:
    """Store and uplink of one gateway, on a simulated disk, with a clock that does not wait."""

    def __init__(self, backend: TestBackend, http: httpx.AsyncClient) -> None:
        self.backend = backend
        backend.state = BackendState(GATEWAY_ID, public_key(SEED), backend.log)
        self.clock = FakeClock()
        self.counters = Counters()
        self.device = make_device()
        self.disk = SimulatedFiles()
        self.client = BackendClient(http, backend.url, TOKEN, self.clock)
        self.halved = 0
        self.store = open_store(
            self.disk,
            FOLDER,
            random.Random(1).randbytes,
            len_max=100_000,
            batch_len_max=1000,
            on_record=lambda _record: None,
        )
        self.watch = LogWatch(
            self.client, backend.log.public_key, self.disk, FOLDER, self.on_disk, self.clock, check_s=60
        )
        self.uplink = self.make_uplink(backend.log.public_key)

    def make_uplink(self, log_public_key: bytes) -> Uplink:
        return Uplink(
            self.client,
            self.store,
            self.watch,
            GATEWAY_ID,
            log_public_key,
            self.on_disk,
            self.clock,
            self.counters,
            Backoff(500, 60_000, random.Random(2).random),
            refused_retry_s=60.0,
            changed=self.seal_if_possible,
            too_large=self._halve,
        )

    async def on_disk(self, work: Callable[[], Any]) -> Any:
        return work()

    def _halve(self, _batch: SealedBatch) -> None:
        self.halved += 1

    def make_reports(self, count: int) -> None:
        self.store.append([(1, self.device.report()) for _ in range(count)])

    def seal_if_possible(self) -> None:
        while self.seal():
            pass

    def seal(self) -> SealedBatch | None:
        return self.store.seal(cut_verbatim, LIMITS, 2, GATEWAY_ID, signer(SEED))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Run the uplink until `condition` holds after one of its requests or waits."""
        task = asyncio.create_task(self.uplink.run())
        try:
            while not condition():
                if task.done():
                    await task
                await asyncio.sleep(0)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ChainError):
                await task

    def all_confirmed(self) -> bool:
        return self.store.reconciled and not (self.store.waiting_count or self.store.sealed_count)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    with running_backend() as backend:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            yield Rig(backend, http)


def problem(
    status: int, body: bytes = b"{}", **headers: str
) -> Callable[[], tuple[int, str, bytes, dict[str, str]]]:
    return lambda: (status, "application/problem+json", body, headers)


async def test_sends_in_order_and_forgets_on_receipts(rig: Rig) -> None:
    rig.make_reports(7)
    await rig.until(rig.all_confirmed)
    assert rig.backend.reports == rig.device.made
    assert [batch.seq for batch in rig.backend.state.batches] == [0, 1, 2, 3]
    assert rig.counters.batches_confirmed == 4
    assert rig.counters.reports_confirmed == 7
    assert rig.uplink.state == SENDING


@pytest.mark.threat(10)
async def test_lost_answers_are_made_good_by_the_same_bytes(rig: Rig) -> None:
    rig.make_reports(4)
    rig.backend.lose_answers = 3
    await rig.until(rig.all_confirmed)
    assert rig.backend.reports == rig.device.made
    assert rig.counters.batches_sent == 2 + 3


async def test_a_backend_away_for_many_attempts_loses_nothing(rig: Rig) -> None:
    rig.make_reports(4)
    rig.backend.down = True
    await rig.until(lambda: len(rig.clock.slept) >= 50)
    assert rig.uplink.state == UNAVAILABLE
    assert all(0 <= slept <= 60 for slept in rig.clock.slept)
    assert max(rig.clock.slept) > 10  # it has doubled up
    rig.backend.down = False
    await rig.until(rig.all_confirmed)
    assert rig.backend.reports == rig.device.made


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_later_means_later(rig: Rig, status: int) -> None:
    rig.make_reports(1)
    rig.backend.answers["/v1/batches"] = problem(status, **{"Retry-After": "17"})
    await rig.until(lambda: bool(rig.clock.slept))
    assert rig.clock.slept[0] >= 17
    del rig.backend.answers["/v1/batches"]
    await rig.until(rig.all_confirmed)
    assert rig.backend.reports == rig.device.made


@pytest.mark.threat(10)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "batch_conflict"),
        (409, "chain_broken"),
        (403, "signature_invalid"),
        (401, "token_expired"),
        (422, ""),
    ],
)
async def test_a_refusal_halts_keeps_everything_and_is_tried_again_slowly(
    rig: Rig, status: int, code: str
) -> None:
    rig.make_reports(4)
    rig.backend.answers["/v1/batches"] = problem(status, b'{"code": "%s", "detail": "no"}' % code.encode())
    await rig.until(lambda: len(rig.clock.slept) >= 2)
    assert rig.uplink.state == HALTED
    assert str(status) in rig.uplink.last_error
    assert set(rig.clock.slept) == {60.0}
    assert rig.store.sealed_count == 2
    del rig.backend.answers["/v1/batches"]
    await rig.until(rig.all_confirmed)
    assert rig.backend.reports == rig.device.made
    assert rig.uplink.state == SENDING


async def test_too_large_makes_later_batches_smaller_and_never_cuts_a_sealed_one(rig: Rig) -> None:
    rig.make_reports(2)
    rig.store.reconcile(0, bytes(32))
    sealed = rig.seal()
    rig.backend.answers["/v1/batches"] = problem(413)
    await rig.until(lambda: len(rig.clock.slept) >= 3)
    assert rig.halved == 1  # once, however often it is tried
    assert rig.store.oldest() is sealed
    assert "413" in rig.uplink.last_error


def answer(log: Log, settlement: Settlement) -> bytes:
    entry = encode_settlement(settlement)
    return encode_submission(entry, log.append(entry))


def settlement_for(batch: SealedBatch, **changes: Any) -> Settlement:
    settlement = Settlement(batch.payload_hash, GATEWAY_ID, batch.seq, 1, 1, batch.report_count, [], [])
    for name, value in changes.items():
        setattr(settlement, name, value)
    return settlement


BAD_RECEIPTS: dict[str, Callable[[Rig, SealedBatch], bytes]] = {
    "another log's key": lambda _rig, batch: answer(Log(b"X" * 32), settlement_for(batch)),
    "another batch": lambda rig, batch: answer(rig.backend.log, settlement_for(batch, batch_hash=b"h" * 32)),
    "another seq": lambda rig, batch: answer(rig.backend.log, settlement_for(batch, batch_seq=7)),
    "another gateway": lambda rig, batch: answer(
        rig.backend.log, settlement_for(batch, gateway_id="gbbbbbbbbbbbbbbbb")
    ),
    "fewer reports": lambda rig, batch: answer(rig.backend.log, settlement_for(batch, report_count=1)),
    "another entry than the receipt's": lambda rig, batch: encode_submission(
        encode_settlement(settlement_for(batch)), rig.backend.log.append(b"something else")
    ),
    "a flipped bit": lambda rig, batch: answer(rig.backend.log, settlement_for(batch))[:-1] + b"?",
    "a proxy's page": lambda _rig, _batch: b"<html>Welcome</html>",
    "nothing": lambda _rig, _batch: b"",
}


@pytest.mark.threat(10)
@pytest.mark.parametrize("kind", BAD_RECEIPTS)
async def test_a_bad_receipt_deletes_nothing(rig: Rig, kind: str) -> None:
    rig.make_reports(2)
    rig.store.reconcile(0, bytes(32))
    sealed = rig.seal()
    assert sealed is not None
    body = BAD_RECEIPTS[kind](rig, sealed)
    rig.backend.answers["/v1/batches"] = lambda: (201, "application/cbor", body, {})
    await rig.until(lambda: bool(rig.clock.slept))
    assert rig.uplink.state == HALTED
    assert rig.counters.receipts_refused == 1
    assert rig.store.oldest() is sealed
    assert rig.disk.names(FOLDER / "batches") == [f"{sealed.seq:016d}.batch"]
    assert len(rig.disk.names(FOLDER / "spool")) == 1


async def test_an_endless_answer_is_cut_off(rig: Rig) -> None:
    rig.make_reports(2)
    rig.backend.answers["/v1/batches"] = lambda: (201, "application/cbor", bytes(3 << 20), {})
    await rig.until(lambda: bool(rig.clock.slept))
    assert "longer than" in rig.uplink.last_error


async def test_a_log_key_other_than_the_pinned_one_ends_the_gateway(rig: Rig) -> None:
    rig.uplink = rig.make_uplink(public_key(b"Y" * 32))
    with pytest.raises(ChainError, match="another key than the one pinned"):
        await rig.uplink.run()


async def test_a_state_dir_older_than_the_backend_ends_the_gateway(rig: Rig) -> None:
    rig.backend.state.next_seq = 5
    rig.backend.state.previous = b"p" * 32
    with pytest.raises(ChainError, match="restored from a backup"):
        await rig.uplink.run()


@pytest.mark.threat(13)
async def test_two_roots_for_one_tree_size_halt_the_uplink(rig: Rig) -> None:
    rig.make_reports(2)
    rig.watch.observe(Tree(1, b"r" * 32))  # what a receipt said before
    await rig.until(lambda: bool(rig.clock.slept))
    assert rig.uplink.state == HALTED
    assert "two roots" in rig.watch.alarm
    assert rig.store.sealed_count == 1


@pytest.mark.threat(15)
async def test_a_receipt_that_cannot_be_written_down_is_not_counted(rig: Rig) -> None:
    rig.make_reports(2)
    rig.store.reconcile(0, bytes(32))
    rig.seal()
    rig.disk.fail = lambda operation, path: 5 if operation == "rename" else None
    await rig.until(lambda: len(rig.clock.slept) >= 3)
    assert rig.counters.batches_confirmed == 0
    assert rig.store.sealed_count == 1
    rig.disk.fail = lambda _operation, _path: None
    await rig.until(rig.all_confirmed)
    assert len(rig.backend.state.batches) == 1
