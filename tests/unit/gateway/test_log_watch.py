"""The log may only grow: forks, cuts and proofs about something else raise the alarm (threat 13)."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_backend import Log
from gateway_clock import FakeClock, until
from gateway_files import SimulatedFiles
from gateway_http import TOKEN, TestBackend, running_backend

from surge_gateway.backend_client import AnswerInvalid, BackendClient
from surge_gateway.log_watch import LogWatch, Tree, read_trusted

FOLDER = Path("state")


class Rig:
    def __init__(self, backend: TestBackend, http: httpx.AsyncClient) -> None:
        self.backend = backend
        self.disk = SimulatedFiles()
        self.http = http
        self.key = backend.log.public_key
        self.clock = FakeClock()
        self.watch = self.make()

    def make(self) -> LogWatch:
        client = BackendClient(self.http, self.backend.url, TOKEN, self.clock)
        return LogWatch(client, self.key, self.disk, FOLDER, self.on_disk, self.clock, check_s=60)

    async def on_disk(self, work: Callable[[], Any]) -> Any:
        return work()

    def grow(self, count: int, log: Log | None = None) -> Tree:
        log = log or self.backend.log
        for _ in range(count):
            log.append(b"entry %d" % len(log.leaves))
        return Tree(len(log.leaves), log.root(len(log.leaves)))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    with running_backend() as backend:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            yield Rig(backend, http)


async def test_trusts_the_first_head_and_each_that_extends_it(rig: Rig) -> None:
    for count in (3, 1, 0, 4):
        tree = rig.grow(count)
        await rig.watch.check()
        assert rig.watch.trusted == tree == read_trusted(rig.disk, FOLDER)
    assert rig.watch.alarm == ""
    assert rig.make().trusted == rig.watch.trusted  # a restart remembers


async def test_trees_of_receipts_are_proven_too(rig: Rig) -> None:
    assert rig.watch.observe(rig.grow(2))
    newest = rig.grow(3)
    await rig.watch.check()
    assert rig.watch.trusted == newest


async def test_a_receipt_that_comes_while_the_head_is_on_its_way_raises_no_alarm(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.grow(2)
    ask = BackendClient.log_head
    newer: list[Tree] = []

    async def overtaken(client: BackendClient) -> bytes:
        head = await ask(client)
        newer.append(rig.grow(1))
        assert rig.watch.observe(newer[-1])
        return head

    monkeypatch.setattr(BackendClient, "log_head", overtaken)
    for _ in range(3):
        await rig.watch.check()
        assert rig.watch.alarm == ""
    monkeypatch.undo()
    await rig.watch.check()
    assert rig.watch.trusted == newer[-1]


async def test_an_older_receipt_is_fine(rig: Rig) -> None:
    older = rig.grow(2)
    rig.grow(3)
    await rig.watch.check()
    assert rig.watch.observe(older)
    await rig.watch.check()
    assert rig.watch.alarm == ""


@pytest.mark.threat(13)
async def test_a_log_that_was_cut_raises_the_alarm_and_growing_back_ends_it(rig: Rig) -> None:
    rig.grow(4)
    await rig.watch.check()
    cut = rig.backend.log.leaves.pop()
    await rig.watch.check()
    assert "shrunk" in rig.watch.alarm
    assert rig.make().trusted is not None
    rig.backend.log.leaves.append(cut)
    await rig.watch.check()
    assert rig.watch.alarm == ""


@pytest.mark.threat(13)
async def test_a_fork_raises_the_alarm(rig: Rig) -> None:
    rig.grow(4)
    await rig.watch.check()
    trusted = rig.watch.trusted
    rig.backend.log.leaves[1] = b"f" * 32
    rig.grow(2)
    await rig.watch.check()
    assert "no valid proof" in rig.watch.alarm
    assert rig.watch.trusted == trusted


@pytest.mark.threat(13)
async def test_a_fork_behind_a_receipt_raises_the_alarm(rig: Rig) -> None:
    rig.watch.observe(Tree(rig.grow(2).size, b"r" * 32))
    rig.grow(2)
    await rig.watch.check()
    assert "no valid proof" in rig.watch.alarm


@pytest.mark.threat(13)
async def test_a_head_signed_by_another_key_is_not_believed(rig: Rig) -> None:
    other = Log(b"X" * 32)
    rig.grow(2, other)
    rig.backend.log = other
    with pytest.raises(AnswerInvalid, match="signature not valid"):
        await rig.watch.check()
    assert rig.watch.trusted is None


async def test_a_damaged_head_file_is_started_anew(rig: Rig) -> None:
    rig.grow(2)
    await rig.watch.check()
    rig.disk.put(FOLDER / "log_head.state", b"rubbish")
    watch = rig.make()
    assert watch.trusted is None
    await watch.check()
    assert watch.trusted == rig.watch.trusted


@pytest.mark.threat(15)
async def test_a_full_disk_ends_nothing_and_the_head_is_noted_later(rig: Rig) -> None:
    rig.disk.fail = lambda _operation, _path: errno.ENOSPC
    tree = rig.grow(3)
    task = asyncio.create_task(rig.watch.run())
    await until(lambda: task.done() or len(rig.clock.slept) >= 2)
    assert rig.watch.trusted is None
    assert rig.watch.last_error
    rig.disk.fail = lambda _operation, _path: None
    await until(lambda: rig.watch.trusted == tree)
    assert rig.watch.last_error == ""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
