"""All that a gateway has on disk on the way of a report: spool, sealed batches, chain state.

Place in the flow: `append` (then the device is acknowledged) → `seal` (then it is sent) → `confirm` (then
it is deleted). Synchronous: one disk thread calls it; tests call it straight. Does not talk to anyone.

Rules kept: what `append` returned for is in the spool until `confirm` of the batch that stands for it; a
sealed batch is on disk before anyone sees it, so a seq has one content across crashes; nothing is sealed
before `reconcile` has compared our chain with the backend's in this run; the state is written before
anything is deleted; what a killed process left is synced at the next start before it is relied on.
"""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from surge_gateway.chain import Confirmed, SealedBatch, continues, reconcile
from surge_gateway.cut import CutLimits, Cutter
from surge_gateway.files import Files, remove_if_there
from surge_gateway.quarantine import Quarantine
from surge_gateway.reserve import Reserve
from surge_gateway.sealed_files import (
    DAMAGED_SUFFIX,
    SUPERSEDED_SUFFIX,
    batch_path,
    read_confirmed,
    read_sealed,
    set_aside,
    write_confirmed,
    write_sealed,
)
from surge_gateway.spool import Spool
from surge_gateway.spool_record import Position, Record
from surge_gateway.spool_recovery import open_spool
from surge_wire.batch import Batch, chain_hash, encode_batch, seal_batch

log = structlog.get_logger()

SPOOL_FOLDER = "spool"
BATCH_FOLDER = "batches"
QUARANTINE_FOLDER = "quarantine"
RESERVE_NAME = "reserve"
SEALED_MAX = 4  # no further batch is sealed until a receipt comes; reports wait in the spool
RESERVE_MARGIN_LEN = 64 * 1024  # beside a sealed batch: the chain's state, folders

Result = TypeVar("Result")


class Store:
    """Made by `open_store`."""

    def __init__(
        self,
        files: Files,
        folder: Path,
        spool: Spool,
        quarantine: Quarantine,
        reserve: Reserve,
        confirmed: Confirmed,
        sealed: list[SealedBatch],
    ) -> None:
        self._files = files
        self._folder = folder
        self.spool = spool
        self.quarantine = quarantine
        self._reserve = reserve
        self._confirmed = confirmed
        self._sealed = sealed
        self._cursor = sealed[-1].end if sealed else confirmed.released
        self._next: tuple[int, bytes] | None = None  # (seq, previous) of the next batch, once reconciled
        self._adopted_seq = 0  # from here on the chain is certain again, after damage
        self.waiting_count = 0  # durable reports that no sealed batch stands for
        self.waiting_bytes = 0
        self.waiting_from_ms: int | None = None  # when the first of them came

    @property
    def reconciled(self) -> bool:
        return self._next is not None

    @property
    def sealed_count(self) -> int:
        return len(self._sealed)

    @property
    def cursor(self) -> Position:
        """Up to here sealed batches stand for the spool."""
        return self._cursor

    def append(self, group: Sequence[tuple[int, bytes]]) -> None:
        """Make `(received_ms, report)`s durable. OSError: none of them counts; try again later."""
        if not self._reserve.restore():
            raise OSError(errno.ENOSPC, "disk full: the last room is kept for sending")
        self.spool.append(group)
        if self.waiting_from_ms is None:
            self.waiting_from_ms = group[0][0]
        self.waiting_count += len(group)
        self.waiting_bytes += sum(len(report) for _, report in group)

    def reconcile(self, backend_next_seq: int, backend_previous: bytes) -> None:
        """Take up the chain where the backend and we agree it stands. Raises ChainError, OSError."""
        if not self._confirmed.certain and not continues(self._sealed, backend_next_seq, backend_previous):
            self._cut_anew()
        following = reconcile(self._confirmed, self._sealed, backend_next_seq, backend_previous)
        if not self._confirmed.certain:
            log.warning("chain_adopted_after_damage", next_seq=following[0])
            self._adopted_seq = following[0]
        self._next = following

    def _cut_anew(self) -> None:
        """Give up every sealed batch; what they stand for waits again. Raises OSError."""
        if not self._sealed:
            return
        released = self._confirmed.released
        waiting = [(item.record.received_ms, len(item.record.report)) for item in self.spool.read(released)]
        for batch in reversed(self._sealed):  # so that what a crash leaves is still a chain
            set_aside(self._files, batch_path(self._folder / BATCH_FOLDER, batch.seq), SUPERSEDED_SUFFIX)
        self._sealed.clear()
        self._cursor = released
        self.waiting_count = len(waiting)
        self.waiting_bytes = sum(length for _, length in waiting)
        self.waiting_from_ms = waiting[0][0] if waiting else None

    def unreconcile(self) -> None:
        """Seal nothing until the backend was asked again."""
        self._next = None

    def seal(
        self,
        cutter: Cutter,
        limits: CutLimits,
        now_ms: int,
        gateway_id: str,
        sign: Callable[[bytes], bytes],
    ) -> SealedBatch | None:
        """Fix the next batch's content; None while there is nothing to seal, or it may not be.

        Raises OSError.
        """
        if self._next is None or len(self._sealed) >= SEALED_MAX or self.waiting_count == 0:
            return None
        seq, previous = self._next
        cut = cutter(self.spool.read(self._cursor), limits)
        if cut.taken_count == 0:  # all that was waiting is damaged; it is in quarantine
            self.waiting_count = self.waiting_bytes = 0
            self.waiting_from_ms = None
            return None
        batch = Batch(seq, previous, now_ms, cut.reports, cut.received_ms, cut.windows, cut.summarised)
        payload = encode_batch(batch)
        sealed = SealedBatch(
            seq,
            previous,
            chain_hash(payload),
            len(cut.reports),
            cut.taken_count,
            cut.end,
            seal_batch(gateway_id, sign, payload),
        )
        self._with_reserve(lambda: write_sealed(self._files, self._folder / BATCH_FOLDER, sealed))
        cut.on_sealed()
        self._sealed.append(sealed)
        self._cursor = sealed.end
        self._next = (seq + 1, sealed.payload_hash)
        self.waiting_from_ms = cut.next_received_ms
        exhausted = cut.next_received_ms is None
        self.waiting_count = 0 if exhausted else max(1, self.waiting_count - cut.taken_count)
        self.waiting_bytes = 0 if exhausted else max(1, self.waiting_bytes - cut.taken_bytes)
        return sealed

    def oldest(self) -> SealedBatch | None:
        """The batch to send next."""
        return self._sealed[0] if self._sealed else None

    def confirm(self, batch: SealedBatch) -> None:
        """A verified receipt covers `batch`, the oldest: forget it and what it stands for. Raises OSError."""
        if not self._sealed or self._sealed[0] is not batch:
            raise ValueError("only the oldest sealed batch can be confirmed")
        certain = self._confirmed.certain or batch.seq >= self._adopted_seq
        confirmed = Confirmed(batch.seq + 1, batch.payload_hash, batch.end, certain)
        self._with_reserve(lambda: write_confirmed(self._files, self._folder, confirmed))
        self._confirmed = confirmed
        del self._sealed[0]
        try:
            remove_if_there(self._files, batch_path(self._folder / BATCH_FOLDER, batch.seq))
        except OSError as error:  # the next start removes it
            log.warning("sealed_batch_not_removed", seq=batch.seq, error=str(error))
        self.spool.release(batch.end)
        self._reserve.restore()

    def _with_reserve(self, write: Callable[[], Result]) -> Result:
        """`write`, and once more on the reserve's room where the disk is full."""
        try:
            return write()
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._reserve.spend():
                raise
            return write()

    def close(self) -> None:
        self.spool.close()


def open_store(
    files: Files,
    folder: Path,
    random: Callable[[int], bytes],
    *,
    len_max: int,
    batch_len_max: int,
    on_record: Callable[[Record], None],
) -> Store:
    """What is in `folder`, recovered. `on_record` gets every report that no receipt covers. Raises OSError.

    `len_max` bounds the spool, `batch_len_max` a sealed batch's file.
    """
    batch_folder = folder / BATCH_FOLDER
    for each in (folder, batch_folder, folder / SPOOL_FOLDER):
        files.make_folder(each)
    for each in (folder, batch_folder):  # names: of the folders, and of files renamed before a kill
        files.sync_folder(each)
    confirmed = read_confirmed(files, folder)
    sealed, rest = read_sealed(files, batch_folder, confirmed)
    if rest or not confirmed.certain:
        confirmed = Confirmed(confirmed.next_seq, confirmed.previous, confirmed.released, certain=False)
        write_confirmed(
            files, folder, confirmed
        )  # before anything is set aside: a crash here must not look whole
        for path in rest:
            set_aside(files, path, DAMAGED_SUFFIX)
    quarantine = Quarantine(files, folder / QUARANTINE_FOLDER)
    quarantine.open()
    cursor = sealed[-1].end if sealed else confirmed.released
    waiting_count = waiting_bytes = 0
    waiting_from_ms: int | None = None

    def note(end: Position, record: Record) -> None:
        nonlocal waiting_count, waiting_bytes, waiting_from_ms
        if end > cursor:
            if waiting_from_ms is None:
                waiting_from_ms = record.received_ms
            waiting_count += 1
            waiting_bytes += len(record.report)
        on_record(record)

    spool = open_spool(
        files,
        folder / SPOOL_FOLDER,
        quarantine,
        random,
        len_max=len_max,
        released=confirmed.released,
        cursor=cursor,
        on_record=note,
    )
    reserve = Reserve(files, folder / RESERVE_NAME, batch_len_max + RESERVE_MARGIN_LEN, random)
    reserve.open()
    store = Store(files, folder, spool, quarantine, reserve, confirmed, sealed)
    store.waiting_count = waiting_count
    store.waiting_bytes = waiting_bytes
    store.waiting_from_ms = waiting_from_ms
    return store
