"""Verifying an export without trust: everything in it is computed again and compared.

Place in the flow: ``surge verify``, the demo and tests call `verify_export` on a file or a stream of bytes.

Does not: fetch, or print. Rules it keeps: nothing is believed but a log key that the caller gave, or else the
one in the export, which the caller is told of; memory grows by some 31 bytes a report, whatever its size, and
holds one batch; whatever the bytes, the outcome is a `Report` or ExportUnreadable.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from surge_backend.audit import findings as kinds
from surge_backend.audit import items
from surge_backend.audit.entry_audit import EntryAudit
from surge_backend.audit.findings import EnoughFound, Finding, Findings, shown
from surge_backend.audit.framing import ExportUnreadable, Readable, read_frames
from surge_backend.audit.items import End, Entry, Event, Header, Item, Rows, TransferItem, decode_item
from surge_backend.audit.log_audit import LogAudit
from surge_backend.audit.macs import Macs
from surge_backend.audit.money_audit import MoneyAudit
from surge_backend.audit.registry_audit import RegistryAudit
from surge_backend.audit.rows_audit import RowsAudit
from surge_backend.audit.verdict_audit import VerdictAudit
from surge_wire.errors import DecodeError, EncodeError

_READ_LEN: Final = 1024 * 1024

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """``log_public_key``: the log's, if the caller knows it. ``heads``: signed heads that were kept from
    before. ``report_keys``: by device, to check MACs. ``findings_max``: lies to list before giving up.
    ``progress(entries, of)`` is called after each entry."""

    log_public_key: bytes | None = None
    heads: Sequence[bytes] = ()
    report_keys: Mapping[str, bytes] | None = None
    findings_max: int = 1
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked, how often; what could not be, and why; and every lie found, the first one first."""

    full: bool
    log_public_key: bytes
    key_given: bool
    tree_size: int
    root: bytes
    head: bytes  # the newest, as the log signed it; empty for an empty log
    checked: Mapping[str, int]
    unchecked: Mapping[str, str]
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify_export(source: Path | Readable, options: Options | None = None) -> Report:
    """Verify a whole export. Raises ExportUnreadable for what is none, or is cut short; OSError."""
    if isinstance(source, Path):
        with source.open("rb", buffering=_READ_LEN) as file:
            return verify_export(file, options)
    return verify_items(read_frames(source), options)


def verify_items(frames: Iterable[tuple[int, bytes]], options: Options | None = None) -> Report:
    """Verify the items of an export, each with where it stands. Raises ExportUnreadable."""
    verification = _Verification(options or Options())
    try:
        for offset, data in frames:
            try:
                item = decode_item(data)
            except DecodeError as error:
                said = shown(f"not an export of Surge: {error}")
                raise ExportUnreadable(said, f"item at byte {offset}") from error
            verification.take(item, offset)
        verification.finish()
    except EnoughFound:
        pass
    return verification.report()


class _Verification:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._found = Findings(options.findings_max)
        self._header: Header | None = None
        self._end: End | None = None
        self._made: tuple[LogAudit, EntryAudit, RowsAudit] | None = None
        self._past_entries = False

    def take(self, item: Item, offset: int) -> None:
        where = f"item at byte {offset}"
        if self._end is not None:
            raise ExportUnreadable("something follows the export's end", where)
        if self._made is None:
            if not isinstance(item, Header):
                raise ExportUnreadable("the export has no header", where)
            self._begin(item, where)
            return
        log, entries, rows = self._made
        if isinstance(item, Header):
            raise ExportUnreadable("the export has two headers", where)
        if isinstance(item, Entry):
            if self._past_entries:
                raise ExportUnreadable("an entry stands after the tables", where)
            entries.take(item)
            if self._options.progress is not None:
                self._options.progress(log.size, self._header.tree_size if self._header else 0)
        elif isinstance(item, Event):
            if self._past_entries:
                raise ExportUnreadable("an event stands after the tables", where)
            entries.take_event(item)
        elif isinstance(item, End):
            self._end = item
        else:
            self._past_entries = True
            if isinstance(item, Rows):
                rows.take(item)
            elif isinstance(item, TransferItem):
                entries.money.other_transfer(item)

    def _begin(self, header: Header, where: str) -> None:
        self._header = header
        if header.first != 0:
            raise ExportUnreadable(f"the export begins with entry {header.first}, not with the first", where)
        given = self._options.log_public_key
        key = header.log_public_key if given is None else given
        try:
            log = LogAudit(self._found, key)
        except EncodeError as error:
            raise ExportUnreadable(f"the log's key is none: {error}", where) from error
        registry = RegistryAudit(self._found, Macs(self._options.report_keys))
        verdicts = VerdictAudit(self._found, registry, header.limits)
        money = MoneyAudit(self._found)
        entries = EntryAudit(self._found, header.scope == items.FULL, log, registry, verdicts, money)
        self._made = (log, entries, RowsAudit(self._found, registry, verdicts, money))
        if given is not None:
            what = "the log is under another key"
            self._found.equal(kinds.LOG_KEY, what, "header", given, header.log_public_key)
        log.remember(self._options.heads)

    def finish(self) -> None:
        """The source ended: was it the whole export?"""
        if self._made is None or self._header is None:
            raise ExportUnreadable("the export is empty", "byte 0")
        log, entries, rows = self._made
        end = self._end
        if end is None or end.next_index < end.tree_size:
            raise ExportUnreadable("the export is cut short: its end is missing", f"after entry {log.size}")
        entries.finish()
        what = "entries are missing at the end"
        self._found.equal(kinds.ENTRY, what, "end", (end.tree_size,) * 2, (log.size, end.next_index))
        log.finish()
        if self._header.scope == items.FULL:
            rows.finish()

    def report(self) -> Report:
        header = self._header
        if self._made is None or header is None:
            raise ExportUnreadable("the export is empty", "byte 0")
        log, entries, _ = self._made
        return Report(
            full=header.scope == items.FULL,
            log_public_key=header.log_public_key,
            key_given=self._options.log_public_key is not None,
            tree_size=log.size,
            root=log.root,
            head=log.head,
            checked={name: count for name, count in self._found.checked.items() if count},
            unchecked=entries.unchecked(),
            findings=tuple(self._found.found),
        )
