"""Verifying a database as an export of it would be verified, without a file between.

Place in the flow: the demo's end, the simulator's and the chaos tests' books. Rule kept: what is verified
is the export's bytes, so a fault in the export itself is found as well.
"""

from collections.abc import Iterator

from surge_backend.audit import items
from surge_backend.audit.exporting import Source, export_parts
from surge_backend.audit.verifying import Options, Report, verify_export


def verify_database(source: Source, options: Options | None = None) -> Report:
    """Export ``source`` in full and verify it. Raises what both raise."""
    return verify_export(_Parts(export_parts(source, items.FULL)), options)


class _Parts:
    """Parts of bytes, as frames are read."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._part = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, none at the end only."""
        while not self._part:
            part = next(self._parts, None)
            if part is None:
                return b""
            self._part = memoryview(part)
        found, self._part = self._part[:size], self._part[size:]
        return bytes(found)
