"""Device histories, remembered between batches.

Place in the flow: ``ingest`` loads the histories of a batch's devices within its transaction and hands back
the changed ones, which are written here too.

Rules it keeps: histories change only in transactions that also append to the log. So what is remembered is
right exactly while the log has the root it had then; when another process has appended, everything is
forgotten. What a transaction changed counts only once the log shows that it was committed. The log's length
would not do: after a rollback here and a batch of another process it is what the commit would have made it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection

from surge_backend.db.bulk import put_rows, select_by_keys
from surge_backend.db.schema import device_boots, device_totals
from surge_backend.verify.history import BootHistory, DeviceHistory

# Devices, about 50 MB; past it, those that came first are read again.
HISTORIES_REMEMBERED_MAX: Final = 50_000

_BOOT_COLUMNS: Final = (
    "device_id",
    "boot",
    "seq_max",
    "previous_end",
    "first_seen_ms",
    "last_seen_ms",
    "reports",
    "samples",
    "bytes",
)
_TOTAL_COLUMNS: Final = (
    "device_id",
    "boot_max",
    "reports",
    "samples",
    "bytes",
    "microcredits",
    "carry",
    "last_report_ms",
    "command_counter",
)
_TOTALS: Final = f"SELECT {', '.join(_TOTAL_COLUMNS)} FROM device_totals WHERE device_id IN ({{keys}})"  # noqa: S608
_BOOTS: Final = (
    f"SELECT {', '.join('b.' + name for name in _BOOT_COLUMNS)} FROM device_boots b"  # noqa: S608
    " JOIN device_totals t ON t.device_id = b.device_id"
    " WHERE b.boot >= t.boot_max - {} AND b.device_id IN ({keys})"
)


class Histories:
    """Used within `Database.write` alone, so by one thread at a time. ``boot_window`` is
    VerifyLimits.boot_window."""

    def __init__(self, boot_window: int, remembered_max: int = HISTORIES_REMEMBERED_MAX) -> None:
        self._boots_kept = boot_window + 1  # the boot after the oldest that matters has its declared end
        self._remembered_max = remembered_max
        self._known: dict[str, DeviceHistory] = {}
        self._root = b""  # of the log that `_known` belongs to
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
        return found

    def forget(self) -> None:
        """Read everything anew from now on."""
        self._known = {}
        self._changed = {}
        self._root = self._changed_root = b""

    def store(self, connection: Connection, changed: Mapping[str, DeviceHistory], root: bytes) -> None:
        """Write the histories that ``changed``; ``root`` is the log's with the entry of this transaction."""
        boots = []
        for device_id, history in changed.items():
            boots += [(device_id, *_boot_row(boot)) for boot in history.changed.values()]
            history.settle()
            if len(history.boots) > self._boots_kept:
                history.forget_before(history.boot_max - self._boots_kept)
        put_rows(connection, device_boots, _BOOT_COLUMNS, boots)
        put_rows(
            connection, device_totals, _TOTAL_COLUMNS, [_totals_row(history) for history in changed.values()]
        )
        self._changed = dict(changed)
        self._changed_root = root

    def _read(self, connection: Connection, keys: list[tuple[str]]) -> Iterable[DeviceHistory]:
        found: dict[str, DeviceHistory] = {}
        for row in select_by_keys(connection, _TOTALS, keys):
            found[row[0]] = DeviceHistory(row[0], {}, *row[1:])
        if found:
            have = [(device_id,) for device_id in found]
            for row in select_by_keys(connection, _BOOTS, have, (self._boots_kept,)):
                found[row[0]].boots[row[1]] = BootHistory(*row[1:])
        return found.values()


def _boot_row(boot: BootHistory) -> tuple[Any, ...]:
    """The columns of ``device_boots`` after the device's id."""
    return (
        boot.boot,
        boot.seq_max,
        boot.previous_end,
        boot.first_seen_ms,
        boot.last_seen_ms,
        boot.reports,
        boot.samples,
        boot.bytes,
    )


def _totals_row(history: DeviceHistory) -> tuple[Any, ...]:
    return (
        history.device_id,
        history.boot_max,
        history.reports,
        history.samples,
        history.bytes,
        history.microcredits,
        history.carry,
        history.last_report_ms,
        history.command_counter,
    )
