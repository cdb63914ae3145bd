"""Rotten files, states restored from backups: nothing is sent under a seq that may have another content."""

from pathlib import Path

import pytest
from gateway_backend import BackendState
from gateway_files import SimulatedFiles
from gateway_reports import Device, make_device

from surge_gateway.chain import SealedBatch
from surge_gateway.cut import CutLimits, cut_verbatim
from surge_gateway.errors import ChainError
from surge_gateway.store import SEALED_MAX, Store, open_store
from surge_wire.ed25519 import public_key, signer

FOLDER = Path("state")
GATEWAY_ID = "gaaaaaaaaaaaaaaaa"
SEED = b"g" * 32
LIMITS = CutLimits(2, 10_000)
sign = signer(SEED)


class Site:
    def __init__(self) -> None:
        self.disk = SimulatedFiles()
        self.backend = BackendState(GATEWAY_ID, public_key(SEED))
        self.device: Device = make_device()
        self.store = self.open()
        self.store.reconcile(self.backend.next_seq, self.backend.previous)

    def open(self) -> Store:
        self.store = open_store(
            self.disk,
            FOLDER,
            self.disk.random.randbytes,
            len_max=100_000,
            batch_len_max=1000,
            on_record=lambda _record: None,
        )
        return self.store

    def reopen(self) -> Store:
        self.store.close()
        return self.open()

    def append(self, count: int) -> None:
        self.store.append([(1, self.device.report()) for _ in range(count)])

    def seal(self) -> SealedBatch | None:
        return self.store.seal(cut_verbatim, LIMITS, 2, GATEWAY_ID, sign)

    def send(self) -> None:
        batch = self.store.oldest()
        assert batch is not None
        self.backend.submit(batch.envelope)
        self.store.confirm(batch)

    def send_all(self) -> None:
        while self.store.waiting_count or self.store.sealed_count:
            self.seal()
            self.send()

    def flip(self, path: Path) -> None:
        data = self.disk.read(path)
        self.disk.put(path, data[:50] + bytes([data[50] ^ 1]) + data[51:])

    def rests(self) -> None:
        """All that was made has arrived, some of it perhaps twice."""
        assert set(self.device.made) <= set(self.backend.reports)


def test_nothing_is_sealed_before_the_backend_was_asked() -> None:
    site = Site()
    site.append(1)
    site.reopen()
    assert site.seal() is None
    site.store.reconcile(0, site.backend.previous)
    assert site.seal() is not None


def test_a_sealed_batch_is_the_same_bytes_after_a_restart() -> None:
    site = Site()
    site.append(3)
    batch = site.seal()
    assert batch is not None
    assert site.reopen().oldest() == batch
    assert site.store.waiting_count == 1


def test_sealing_stops_at_its_bound_until_a_receipt_comes() -> None:
    site = Site()
    site.append(20)
    assert [site.seal() is not None for _ in range(SEALED_MAX + 1)] == [True] * SEALED_MAX + [False]
    site.send()
    assert site.seal() is not None


def test_answer_lost_before_a_restart_is_sent_again_unchanged() -> None:
    site = Site()
    site.append(2)
    batch = site.seal()
    assert batch is not None
    site.backend.submit(batch.envelope)
    site.reopen().reconcile(site.backend.next_seq, site.backend.previous)
    site.send_all()
    assert len(site.backend.batches) == 1


@pytest.mark.threat(10)
@pytest.mark.threat(14)
@pytest.mark.parametrize("reached_backend", [False, True])
def test_a_rotten_sealed_batch_is_set_aside_and_its_reports_go_again(reached_backend: bool) -> None:
    site = Site()
    site.append(6)
    first, second = site.seal(), site.seal()
    assert first is not None
    assert second is not None
    if reached_backend:
        site.backend.submit(first.envelope)
    site.flip(FOLDER / "batches" / f"{first.seq:016d}.batch")
    site.reopen().reconcile(site.backend.next_seq, site.backend.previous)
    site.send_all()
    site.rests()
    damaged = [name for name in site.disk.names(FOLDER / "batches") if name.endswith(".damaged")]
    assert len(damaged) == 2
    site.append(1)
    site.reopen().reconcile(site.backend.next_seq, site.backend.previous)
    site.send_all()
    site.rests()


@pytest.mark.threat(14)
@pytest.mark.parametrize("sealed", [0, 1])
def test_a_rotten_chain_state_takes_the_backends_word(sealed: int) -> None:
    site = Site()
    site.append(2)
    site.seal()
    site.send()
    site.append(2)
    for _ in range(sealed):
        site.seal()
    site.flip(FOLDER / "chain.state")
    site.reopen().reconcile(site.backend.next_seq, site.backend.previous)
    site.send_all()
    site.rests()
    assert "chain.state.damaged" in site.disk.names(FOLDER)


def test_a_state_restored_from_a_backup_is_a_clear_error() -> None:
    site = Site()
    site.append(2)
    site.seal()
    site.send()
    backup = {path: node.data for path, node in site.disk._names.items()}
    site.append(2)
    site.seal()
    site.send()
    for path, data in backup.items():
        if path in site.disk._names:
            site.disk.put(path, data)
    site.append(1)
    with pytest.raises(ChainError, match=r"backend expects batch 2, .*would make 1.*restored from a backup"):
        site.reopen().reconcile(site.backend.next_seq, site.backend.previous)
    assert site.seal() is None


def test_an_emptied_state_dir_is_a_clear_error() -> None:
    site = Site()
    site.append(2)
    site.seal()
    site.send()
    site.disk = SimulatedFiles()
    with pytest.raises(ChainError, match="the state_dir none"):
        site.open().reconcile(site.backend.next_seq, site.backend.previous)


def test_a_backend_that_forgot_receipted_batches_is_a_clear_error() -> None:
    site = Site()
    site.append(2)
    site.seal()
    site.send()
    with pytest.raises(ChainError, match="gave receipts for all before 1"):
        site.reopen().reconcile(0, bytes(32))


def test_a_backend_with_another_batch_under_our_seq_is_a_clear_error() -> None:
    site = Site()
    site.append(2)
    site.seal()
    site.send()
    with pytest.raises(ChainError, match="another batch 0 than ours"):
        site.reopen().reconcile(1, b"x" * 32)


def test_only_the_oldest_batch_can_be_confirmed() -> None:
    site = Site()
    site.append(4)
    site.seal()
    second = site.seal()
    assert second is not None
    with pytest.raises(ValueError, match="oldest"):
        site.store.confirm(second)


def test_segments_go_only_with_the_receipt() -> None:
    site = Site()
    site.append(2)
    site.reopen().reconcile(0, bytes(32))  # closes the segment
    site.seal()
    assert len(site.disk.names(FOLDER / "spool")) == 1
    site.send()
    assert site.disk.names(FOLDER / "spool") == []
    assert site.disk.names(FOLDER / "batches") == []
