"""An export as bytes: a CBOR sequence (RFC 8742) of byte strings, each holding one item.

Place in the flow: ``exporting`` writes frames, ``verifying`` reads them from a file or an answer's body.

Does not: look into an item. Rules it keeps: a length is checked before anything of it is read, and at most
one item is held. What ends before its time, or is no export at all, is ExportUnreadable with the offset.
"""

from collections.abc import Iterator
from typing import Final, Protocol

from surge_wire.limits import CBOR_LEN_MAX

ITEM_LEN_MAX: Final = CBOR_LEN_MAX  # a batch of 4 MiB with its settlement, answer and transfer is within it

_BYTE_STRING: Final = 0x40
_LONG: Final = {24: 1, 25: 2, 26: 4}  # argument in so many bytes after the head


class ExportUnreadable(Exception):
    """Not an export, or damaged, or cut short: nothing can be said about what is in it."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} ({where})")
        self.what = what
        self.where = where


class Readable(Protocol):
    """What frames are read from."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end only."""


def frame(item: bytes) -> bytes:
    """``item`` as a byte string. Raises ValueError for one that no reader would take."""
    length = len(item)
    if length > ITEM_LEN_MAX:
        raise ValueError(f"an item of {length} bytes; the limit is {ITEM_LEN_MAX}")
    if length < 24:
        return bytes((_BYTE_STRING | length,)) + item
    for short, size in _LONG.items():
        if length < 1 << 8 * size:
            return bytes((_BYTE_STRING | short,)) + length.to_bytes(size, "big") + item
    raise ValueError("an item that long has no head")  # pragma: no cover: ITEM_LEN_MAX is far below


def read_frames(source: Readable) -> Iterator[tuple[int, bytes]]:
    """``(offset, item)`` of every frame until the source ends. Raises ExportUnreadable."""
    offset = 0
    while True:
        head = source.read(1)
        if not head:
            return
        size = 0
        length = head[0] & 0x1F
        if head[0] & 0xE0 != _BYTE_STRING or (length > 23 and length not in _LONG):
            raise ExportUnreadable("not an export of Surge, or damaged", f"byte {offset}")
        if length > 23:
            size = _LONG[length]
            length = int.from_bytes(_exactly(source, size, offset), "big")
        if length > ITEM_LEN_MAX:
            raise ExportUnreadable(
                f"an item of {length} bytes; the limit is {ITEM_LEN_MAX}", f"byte {offset}"
            )
        yield offset, _exactly(source, length, offset)
        offset += 1 + size + length


def _exactly(source: Readable, length: int, offset: int) -> bytes:
    parts = []
    missing = length
    while missing:
        part = source.read(missing)
        if not part:
            raise ExportUnreadable("the export is cut short", f"in the item at byte {offset}")
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
