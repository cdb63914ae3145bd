"""When a batch is closed."""

import asyncio
import contextlib
import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway_clock import FakeClock, until
from gateway_files import SimulatedFiles
from gateway_reports import make_device

from surge_gateway.backoff import Backoff
from surge_gateway.batcher import Batcher, ClosingRules
from surge_gateway.counters import Counters
from surge_gateway.cut import CutLimits, cut_verbatim
from surge_gateway.store import open_store
from surge_wire.batch import decode_batch, open_batch
from surge_wire.ed25519 import signer

NOW = 1_700_000_000_000
RULES = ClosingRules(CutLimits(reports_max=5, bytes_max=2000), age_ms=250)


@pytest.mark.parametrize(
    ("count", "length", "from_ms", "due"),
    [
        (1, 100, NOW, 250),
        (1, 100, NOW - 200, 50),
        (1, 100, NOW - 250, 0),
        (5, 100, NOW, 0),
        (1, 2000, NOW, 0),
        (1, 100, NOW + 5000, 0),  # the clock was set back
    ],
)
def test_closes_by_count_bytes_or_age(count: int, length: int, from_ms: int, due: int) -> None:
    assert RULES.due_in_ms(count, length, from_ms, NOW) == due


@pytest.mark.parametrize(("from_ms", "due"), [(NOW, 60_000 - NOW % 60_000), (NOW - 60_000, 0)])
def test_windows_close_at_their_end(from_ms: int, due: int) -> None:
    rules = ClosingRules(CutLimits(5, 2000), age_ms=250, window_ms=60_000)
    assert rules.due_in_ms(1000, 100_000, from_ms, NOW) == due


class Rig:
    def __init__(self) -> None:
        self.disk = SimulatedFiles()
        self.clock = FakeClock(NOW)
        self.device = make_device()
        self.store = open_store(
            self.disk,
            Path("state"),
            random.Random(1).randbytes,
            len_max=1 << 20,
            batch_len_max=1000,
            on_record=lambda _record: None,
        )
        self.batcher = Batcher(
            self.store,
            RULES,
            cut_verbatim,
            "gaaaaaaaaaaaaaaaa",
            signer(b"g" * 32),
            self.on_disk,
            self.clock,
            Counters(),
            Backoff(200, 1000, random.Random(1).random),
            sealed=lambda: None,
        )

    async def on_disk(self, work: Callable[[], Any]) -> Any:
        return work()

    def append(self, count: int) -> None:
        self.store.append([(self.clock.now_ms(), self.device.report()) for _ in range(count)])
        self.batcher.poke()

    async def until(self, condition: Callable[[], bool]) -> None:
        task = asyncio.create_task(self.batcher.run())
        await until(condition)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_lone_report_goes_after_the_age_limit() -> None:
    rig = Rig()
    rig.store.reconcile(0, bytes(32))
    rig.append(1)
    await rig.until(lambda: rig.store.sealed_count == 1)
    batch = decode_batch(open_batch(rig.store.oldest().envelope)[1].payload)
    assert batch.closed_ms == NOW + 250
    assert batch.reports == rig.device.made


async def test_a_backlog_makes_full_batches() -> None:
    rig = Rig()
    rig.append(12)
    rig.store.reconcile(0, bytes(32))
    await rig.until(lambda: rig.store.sealed_count == 3)
    assert [batch.report_count for batch in rig.store._sealed] == [5, 5, 2]


@pytest.mark.threat(15)
async def test_a_failing_disk_is_tried_again() -> None:
    rig = Rig()
    rig.append(5)
    rig.store.reconcile(0, bytes(32))
    rig.disk.fail = lambda _kind, _path: errno.EIO
    await rig.until(lambda: len(rig.clock.slept) >= 3)
    assert rig.batcher.last_error
    rig.disk.fail = lambda _kind, _path: None
    await rig.until(lambda: rig.store.sealed_count == 1)
    assert rig.batcher.last_error == ""
