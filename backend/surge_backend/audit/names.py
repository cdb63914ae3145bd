"""The accepted reports of a whole log by name, in 31 bytes each where they are neighbours.

Place in the flow: ``verdict_audit`` looks up what was accepted before; ``rows_audit`` compares what is
stored.

Does not: hold reports. Boards count from 0 without holes, so sixteen neighbours share one block; a report
that stands alone costs a block of its own, about 600 bytes, and cost its sender as much.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from surge_backend.verify.judging import ReportName, StoredReport
from surge_backend.verify.reading import DIGEST_LEN, ReadReport

_SHIFT: Final = 4
_MASK: Final = (1 << _SHIFT) - 1
# digest, log index, position, samples, length of the envelope; nothing is there where the length is 0
_ENTRY: Final = Struct(f"<{DIGEST_LEN}sQHHH")

Facts = tuple[bytes, int, int, int, int]  # digest, log index, position, samples, length


class AcceptedNames:
    """Names of accepted reports, and what was accepted under them."""

    def __init__(self) -> None:
        self._blocks: dict[str, dict[tuple[int, int], bytearray]] = {}
        self._counts: dict[str, int] = {}

    def add(self, read: ReadReport, log_index: int) -> None:
        """Take in a report that was accepted in the entry at ``log_index``."""
        device_id = read.device_id or ""
        blocks = self._blocks.get(device_id)
        if blocks is None:
            blocks = self._blocks[device_id] = {}
            self._counts[device_id] = 0
        key = (read.boot, read.seq >> _SHIFT)
        block = blocks.get(key)
        if block is None:
            block = blocks[key] = bytearray(_ENTRY.size << _SHIFT)
        at = (read.seq & _MASK) * _ENTRY.size
        _ENTRY.pack_into(block, at, read.digest, log_index, read.position, read.samples, read.length)
        self._counts[device_id] += 1

    def facts(self, device_id: str, boot: int, seq: int) -> Facts | None:
        """What was accepted under a name, None if nothing was."""
        blocks = self._blocks.get(device_id)
        block = None if blocks is None else blocks.get((boot, seq >> _SHIFT))
        if block is None:
            return None
        found: Facts = _ENTRY.unpack_from(block, (seq & _MASK) * _ENTRY.size)
        return found if found[4] else None

    def look_up(self, names: set[ReportName]) -> dict[ReportName, StoredReport]:
        """Those of ``names`` that are there, as judging wants them."""
        found = {}
        for name in names:
            facts = self.facts(*name)
            if facts is not None:
                found[name] = StoredReport(*facts[:3])
        return found

    def count(self, device_id: str) -> int:
        """Reports of a device."""
        return self._counts.get(device_id, 0)

    def devices(self) -> Iterator[tuple[str, int]]:
        """Every device that has any, and how many."""
        yield from self._counts.items()
