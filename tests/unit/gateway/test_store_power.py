"""Power cuts and full disks at every file operation between append and confirm (threats 10, 14 and 15).

The rules that every run checks: what `append` returned for arrives; a seq has one content for ever.
"""

import contextlib
import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_backend import BackendState
from gateway_files import PowerCut, SimulatedFiles
from gateway_reports import make_device

from surge_gateway.cut import CutLimits, cut_verbatim
from surge_gateway.spool_record import Record
from surge_gateway.store import Store, open_store
from surge_wire.ed25519 import public_key, signer

FOLDER = Path("state")
GATEWAY_ID = "gaaaaaaaaaaaaaaaa"
SEED = b"g" * 32
LIMITS = CutLimits(reports_max=4, bytes_max=10_000)
STEPS = 14
sign = signer(SEED)


def open_on(
    disk: SimulatedFiles, len_max: int = 4000, on_record: Callable[[Record], None] = lambda _record: None
) -> Store:
    return open_store(
        disk,
        FOLDER,
        disk.random.randbytes,
        len_max=len_max,
        batch_len_max=1000,
        on_record=on_record,
    )


class Site:
    """A gateway's store, a backend, and what the device was promised."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.disk = SimulatedFiles(seed)
        self.backend = BackendState(GATEWAY_ID, public_key(SEED))
        self.device = make_device(seed)
        self.acknowledged: list[bytes] = []
        self.store: Store | None = None

    def start(self) -> Store:
        if self.store is None:
            # What is found on disk counts as received: a device that repeats it gets its ack.
            found: list[bytes] = []
            self.store = open_on(self.disk, on_record=lambda record: found.append(record.report))
            self.acknowledged.extend(found)
            self.store.reconcile(self.backend.next_seq, self.backend.previous)
        return self.store

    def step(self) -> None:
        store = self.start()
        choice = self.random.random()
        if choice < 0.5:
            group = [(1000, self.device.report()) for _ in range(self.random.randrange(1, 4))]
            store.append(group)
            self.acknowledged.extend(report for _, report in group)
        elif choice < 0.75:
            store.seal(cut_verbatim, LIMITS, 2000, GATEWAY_ID, sign)
        else:
            self.send(answer_lost=self.random.random() < 0.2)

    def send(self, answer_lost: bool = False) -> None:
        assert self.store is not None
        batch = self.store.oldest()
        if batch is not None:
            self.backend.submit(batch.envelope)
            if not answer_lost:
                self.store.confirm(batch)

    def finish(self) -> None:
        """With a disk and a line that work, everything goes out."""
        store = self.start()
        while store.waiting_count or store.sealed_count:
            store.seal(cut_verbatim, LIMITS, 3000, GATEWAY_ID, sign)
            self.send()
        missing = [report for report in self.acknowledged if report not in self.backend.reports]
        assert missing == []

    def power_cut(self) -> None:
        self.disk = self.disk.restart()
        self.store = None

    def process_died(self) -> None:
        self.disk.process_died()
        self.store = None


def run(seed: int, cut_at: int | None, second_cut: bool = False) -> int:
    """One schedule; the number of file operations that it took until the end or the cut."""
    site = Site(seed)
    site.disk.cut_at = cut_at
    operations = 0
    for _ in range(STEPS):
        try:
            site.step()
        except PowerCut:
            operations = site.disk.operations
            site.power_cut()
            if second_cut:
                site.disk.cut_at = site.random.randrange(1, 30)
    try:
        site.finish()
    except PowerCut:
        site.power_cut()
        site.finish()
    return operations or site.disk.operations


@pytest.mark.threat(10)
@pytest.mark.threat(14)
@pytest.mark.parametrize("seed", range(12))
def test_power_cut_at_every_operation_loses_nothing_acknowledged(seed: int) -> None:
    for cut_at in range(1, run(seed, None) + 1):
        run(seed, cut_at)


@pytest.mark.parametrize("seed", range(20, 26))
def test_second_power_cut_during_recovery_loses_nothing(seed: int) -> None:
    for cut_at in range(1, run(seed, None) + 1):
        run(seed, cut_at, second_cut=True)


def run_killed(seed: int, killed_at: int) -> None:
    """The process dies at one operation, starts again, and some time later the power goes."""
    site = Site(seed)
    site.disk.cut_at = killed_at
    restarted = False
    for _ in range(STEPS):
        try:
            site.step()
        except PowerCut:
            if restarted:
                site.power_cut()
            else:
                restarted = True
                site.process_died()
                site.disk.cut_at = site.disk.operations + site.random.randrange(1, 12)
    try:
        site.finish()
    except PowerCut:
        site.power_cut()
        site.finish()


@pytest.mark.threat(10)
@pytest.mark.threat(14)
@pytest.mark.parametrize("seed", range(50, 62))
def test_what_a_killed_process_had_not_synced_is_not_relied_on_before_it_is(seed: int) -> None:
    for killed_at in range(1, run(seed, None) + 1):
        run_killed(seed, killed_at)


@pytest.mark.threat(15)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("seed", range(30, 35))
def test_error_at_every_operation_gives_no_false_promise_and_passes(seed: int, number: int) -> None:
    clean = run(seed, None)
    for failing in range(1, clean + 1):
        site = Site(seed)
        at = failing

        def fail(_operation: str, _path: Path, site: Site = site, at: int = at) -> int | None:
            # Three operations in a row, so that clean-ups and second attempts fail too.
            return number if at <= site.disk.operations < at + 3 else None

        site.disk.fail = fail
        for _ in range(STEPS):
            with contextlib.suppress(OSError):
                site.step()
        site.disk.fail = lambda _operation, _path: None
        site.finish()  # in the same run: no restart was needed


@pytest.mark.threat(15)
@pytest.mark.parametrize("seed", range(40, 46))
def test_error_then_power_cut_loses_nothing_acknowledged(seed: int) -> None:
    clean = run(seed, None)
    for failing in range(1, clean + 1):
        site = Site(seed)
        site.disk.fail = lambda _operation, _path, site=site, at=failing: (
            errno.EIO if site.disk.operations == at else None
        )
        for _ in range(STEPS):
            try:
                site.step()
            except OSError:
                site.power_cut()
        site.power_cut()
        site.finish()


@pytest.mark.threat(15)
def test_full_disk_still_sends_and_then_accepts_again() -> None:
    site = Site(1)
    store = site.start()
    store.append([(1000, site.device.report())])  # from here on it holds its reserve
    site.disk.capacity = (
        sum(
            site.disk.size(FOLDER / folder / name)
            for folder in ("", "spool", "batches", "quarantine")
            for name in site.disk.names(FOLDER / folder)
        )
        + 2000
    )
    with pytest.raises(OSError, match="full"):  # noqa: PT012 - until the disk is full
        while True:
            group = [(1000, site.device.report())]
            store.append(group)
            site.acknowledged.append(group[0][1])
    assert site.acknowledged
    site.finish()
    store.append([(1000, site.device.report())])
    site.finish()


@pytest.mark.threat(15)
def test_spool_limit_refuses_until_receipts_free_a_segment() -> None:
    site = Site(1)
    store = site.start()
    refused = 0
    for _ in range(200):
        report = site.device.report()
        try:
            store.append([(1000, report)])
        except OSError:
            refused += 1
        else:
            site.acknowledged.append(report)
    assert refused > 0
    assert store.spool.length < 4000 + 200
    site.finish()
    store.append([(1000, site.device.report())])
    site.finish()
