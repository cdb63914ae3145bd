"""Which numbers of a boot were not accepted: ranges below the newest, rising, none touching another.

Place in the flow: a part of ``history``, which ``judging`` asks and changes and ``ingest`` stores.

Does not: change what it is given; a tuple is shared between copies of a history.
"""

import struct
from bisect import bisect_right

from surge_backend.errors import InvariantViolated
from surge_wire.limits import UINT32_MAX

Gaps = tuple[tuple[int, int], ...]  # first, last


def in_gap(gaps: Gaps, seq: int) -> bool:
    """Whether ``seq`` lies in one of ``gaps``."""
    index = bisect_right(gaps, (seq, UINT32_MAX)) - 1
    return index >= 0 and seq <= gaps[index][1]


def without(gaps: Gaps, seq: int) -> Gaps:
    """``gaps`` with ``seq``, which lies in one of them, taken out."""
    index = bisect_right(gaps, (seq, UINT32_MAX)) - 1
    if index < 0 or seq > gaps[index][1]:
        raise InvariantViolated(f"{seq} is to be taken out of a gap and lies in none")
    first, last = gaps[index]
    left = ((first, seq - 1),) if first < seq else ()
    right = ((seq + 1, last),) if seq < last else ()
    return gaps[:index] + left + right + gaps[index + 1 :]


def encode_gaps(gaps: Gaps) -> bytes | None:
    """As they are stored; None if there are none, as nearly always."""
    if not gaps:
        return None
    return struct.pack(f"<{2 * len(gaps)}I", *(seq for gap in gaps for seq in gap))


def decode_gaps(data: bytes | None) -> Gaps:
    """What `encode_gaps` was given."""
    return () if data is None else tuple(struct.iter_unpack("<II", data))
