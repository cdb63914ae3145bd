"""Device histories, remembered between batches.

Place in the flow: ``ingest`` loads the histories of a batch's devices within its transaction and hands back
the changed ones, which are written here too.

Rules it keeps: histories change only in transactions that also append to the log. So what is remembered is
right exactly while the log has the root it had then; when another process has appended, everything is
forgotten. What a transaction changed counts only once the log shows that it was committed. The log's length
would not do: after a rollback here and a batch of another process it is what the commit would have made it.
"""

from collections.abc import Collection, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection

from surge_backend.db.bulk import insert_missing, insert_rows, put_rows, select_by_keys, update_rows
from surge_backend.db.schema import accepted_runs, device_boots, device_totals
from surge_backend.ingest.places import RECENT_LEN_MAX, RUN_COLUMNS, encode_places, make_runs
from surge_backend.verify.gaps import decode_gaps, encode_gaps
from surge_backend.verify.history import BootHistory, DeviceHistory

# Devices, about 75 MB; past it, those that came first are read again.
HISTORIES_REMEMBERED_MAX: Final = 50_000

_BOOT: Final = (
    "seq_max",
    "previous_end",
    "first_seen_ms",
    "last_seen_ms",
    "reports",
    "samples",
    "bytes",
    "gaps_from",
    "gaps",
    "recent",
    "claim_seq",
    "claim",
)
_BOOT_COLUMNS: Final = ("device_id", "boot", *_BOOT)
_TOTALS: Final = (
    "reports",
    "samples",
    "bytes",
    "microcredits",
    "carry",
    "last_report_ms",
    "command_counter",
    "boot_max",
)
_COUNTED: Final = ("reports", "samples", "bytes")  # of the device and of its newest boot, in one row
_NEWEST: Final = tuple("boot_" + name if name in _COUNTED else name for name in _BOOT)
_TOTAL_COLUMNS: Final = (*_TOTALS, *_NEWEST, "device_id")
_READ_TOTALS: Final = f"SELECT {', '.join(_TOTAL_COLUMNS)} FROM device_totals WHERE device_id IN ({{keys}})"  # noqa: S608
_READ_BOOTS: Final = (
    f"SELECT {', '.join('b.' + name for name in _BOOT_COLUMNS)} FROM device_boots b"  # noqa: S608
    " JOIN device_totals t ON t.device_id = b.device_id"
    " WHERE b.boot >= t.boot_max - {} AND b.device_id IN ({keys})"
)
_DEVICE_ID: Final = itemgetter(len(_TOTAL_COLUMNS) - 1)
_UNCHANGED: Final = "reports"  # rises with every change of a row: if it is as it was, nothing came between


class Histories:
    """Used within `Database.write` alone, so by one thread at a time. ``boot_window`` is
    VerifyLimits.boot_window."""

    def __init__(self, boot_window: int, remembered_max: int = HISTORIES_REMEMBERED_MAX) -> None:
        self._boots_kept = boot_window + 1  # the boot after the oldest that matters has its declared end
        self._remembered_max = remembered_max
        self._known: dict[str, DeviceHistory] = {}
        self._root = b""  # of the log that `_known` belongs to
        self._loaded: dict[str, DeviceHistory] = {}  # what the last `load` gave
        self._changed: dict[str, DeviceHistory] = {}
        self._changed_root = b""  # of the log that is committed together with `_changed`

    def load(
        self, connection: Connection, device_ids: Collection[str], root: bytes
    ) -> Mapping[str, DeviceHistory]:
        """The histories of those devices that have one, as the log whose head has ``root`` left them."""
        if root != self._root:
            if root == self._changed_root:
                self._known |= self._changed
            else:
                self._known = {}
            self._root = root
        self._changed = {}
        self._changed_root = b""
        known = self._known
        missing = [(device_id,) for device_id in device_ids if device_id not in known]
        found = {device_id: known[device_id] for device_id in device_ids if device_id in known}
        for history in self._read(connection, missing):
            found[history.device_id] = known[history.device_id] = history
        while len(known) > self._remembered_max:
            del known[next(iter(known))]
        self._loaded = found
        return found

    def forget(self) -> None:
        """Read everything anew from now on."""
        self._known = {}
        self._loaded = {}
        self._changed = {}
        self._root = self._changed_root = b""

    def store(
        self, connection: Connection, changed: Mapping[str, DeviceHistory], log_index: int, root: bytes
    ) -> bool:
        """Write the histories that ``changed`` through the batch at ``log_index``; ``root`` is the log's with
        it.

        False where a row isn't what `load` said: then the transaction must not commit.
        """
        new, updated, earlier, runs = [], [], [], []
        for device_id, history in changed.items():
            if history.fresh:
                history.recent += encode_places(log_index, history.fresh)
                history.fresh = []
            if len(history.recent) >= RECENT_LEN_MAX:
                runs += make_runs(device_id, history.boot_max, history.recent)
                history.recent = b""
            if history.changed is not None:
                for number in history.changed:
                    boot = history.earlier[number]
                    boot.recent += encode_places(log_index, boot.fresh)
                    boot.fresh = []
                    if len(boot.recent) >= RECENT_LEN_MAX:
                        runs += make_runs(device_id, number, boot.recent)
                        boot.recent = b""
                    earlier.append(_boot_row(device_id, number, boot))
                history.settle()
                if len(history.earlier) >= self._boots_kept:
                    history.forget_before(history.boot_max - self._boots_kept)
            before = self._loaded.get(device_id)
            if before is None:
                new.append(_totals_row(history))
            else:
                updated.append(_totals_row(history) + (before.reports,))  # noqa: RUF005
        # Neighbours in the tables' order: fewer pages are touched at a time.
        new.sort(key=_DEVICE_ID)
        updated.sort(key=_DEVICE_ID)
        runs.sort()
        if insert_missing(connection, device_totals, _TOTAL_COLUMNS, new) != len(new):
            return False
        if update_rows(connection, device_totals, _TOTAL_COLUMNS, _UNCHANGED, updated) != len(updated):
            return False
        put_rows(connection, device_boots, _BOOT_COLUMNS, earlier)
        insert_rows(connection, accepted_runs, RUN_COLUMNS, runs)
        self._changed = dict(changed)
        self._changed_root = root
        return True

    def _read(self, connection: Connection, keys: list[tuple[str]]) -> Iterable[DeviceHistory]:
        found: dict[str, DeviceHistory] = {}
        for *row, gaps, recent, claim_seq, claim, device_id in select_by_keys(connection, _READ_TOTALS, keys):
            history = DeviceHistory(device_id, *row)
            history.gaps, history.recent = decode_gaps(gaps), recent
            history.claim_seq, history.claim = claim_seq, claim
            found[device_id] = history
        if found:
            have = [(device_id,) for device_id in found]
            for device_id, number, *row in select_by_keys(connection, _READ_BOOTS, have, (self._boots_kept,)):
                *counts, gaps, recent, claim_seq, claim = row
                boot = found[device_id].earlier[number] = BootHistory(*counts)
                boot.gaps, boot.recent = decode_gaps(gaps), recent
                boot.claim_seq, boot.claim = claim_seq, claim
        return found.values()


def _boot_row(device_id: str, number: int, boot: BootHistory) -> tuple[Any, ...]:
    """In the order of `_BOOT_COLUMNS`."""
    return (
        device_id,
        number,
        boot.seq_max,
        boot.previous_end,
        boot.first_seen_ms,
        boot.last_seen_ms,
        boot.reports,
        boot.samples,
        boot.bytes,
        boot.gaps_from,
        encode_gaps(boot.gaps),
        boot.recent,
        boot.claim_seq,
        boot.claim,
    )


def _totals_row(history: DeviceHistory) -> tuple[Any, ...]:
    """In the order of `_TOTAL_COLUMNS`."""
    return (
        history.reports,
        history.samples,
        history.bytes,
        history.microcredits,
        history.carry,
        history.last_report_ms,
        history.command_counter,
        history.boot_max,
        history.seq_max,
        history.previous_end,
        history.first_seen_ms,
        history.last_seen_ms,
        history.boot_reports,
        history.boot_samples,
        history.boot_bytes,
        history.gaps_from,
        encode_gaps(history.gaps) if history.gaps else None,
        history.recent,
        history.claim_seq,
        history.claim,
        history.device_id,
    )
