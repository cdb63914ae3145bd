"""The place for spool bytes that don't check: set aside for a person, counted, logged once.

Place in the flow: under `spool` and `spool_recovery`. Rules kept: nothing that may have been acknowledged
disappears in silence; the folder is bounded, and beyond the bound the log line and the count remain;
failing to set bytes aside never stops the reports that are whole.
"""

from pathlib import Path

import structlog

from surge_gateway.files import Files, write_new

log = structlog.get_logger()

QUARANTINE_LEN_MAX = 16 * 1024 * 1024  # at the limit, damaged bytes are logged and counted but not kept
SPANS_REMEMBERED_MAX = 10_000  # at the limit, damage that is read twice is counted twice


class Quarantine:
    """Damaged spans of segments, one file each: `<segment>-<offset>.<kind>`."""

    def __init__(self, files: Files, folder: Path) -> None:
        self._files = files
        self._folder = folder
        self._seen: set[tuple[int, int]] = set()
        self._len = 0
        self.spans = 0
        self.bytes = 0

    def open(self) -> None:
        """Make the folder and count what is in it. Raises OSError."""
        self._files.make_folder(self._folder)
        self._len = sum(self._files.size(self._folder / name) for name in self._files.names(self._folder))

    def keep(self, segment: int, offset: int, data: bytes, kind: str) -> None:
        """Set `data`, found at `offset` of `segment`, aside. Once per place."""
        if (segment, offset) in self._seen:
            return
        if len(self._seen) < SPANS_REMEMBERED_MAX:
            self._seen.add((segment, offset))
        self.spans += 1
        self.bytes += len(data)
        log.error(
            "spool_damage", segment=segment, offset=offset, len=len(data), kind=kind, folder=str(self._folder)
        )
        if not data or self._len + len(data) > QUARANTINE_LEN_MAX:
            return
        try:
            write_new(self._files, self._folder / f"{segment:012d}-{offset:010d}.{kind}", data)
            self._len += len(data)
        except FileExistsError:
            pass  # kept before the last restart
        except OSError as error:
            log.error("quarantine_failed", segment=segment, offset=offset, error=str(error))
