"""Acknowledgements: which seqs of a device's boot are on disk.

Place in the flow: pure; `commit` calls it after an fsync, and for duplicates. Rules kept: an ack names only
what is durable; it names all that has just become so; of the rest the newest ranges, for the device has
forgotten the older ones long ago.
"""

from collections.abc import Iterable

from surge_gateway.dedupe import SeqSet
from surge_wire.ack import Ack, encode_ack
from surge_wire.limits import ACK_RANGES_MAX


def encode_acks(boot: int, durable: SeqSet, just_stored: Iterable[int], now_ms: int) -> list[bytes]:
    """One ack, or as many as it takes to name every seq of `just_stored` that is still remembered."""
    ranges = durable.ranges()
    if len(ranges) <= ACK_RANGES_MAX:
        return [encode_ack(Ack(boot, ranges, now_ms))] if ranges else []
    wanted = sorted({at for at in (_range_at(ranges, seq) for seq in just_stored) if at is not None})
    newest = range(len(ranges) - 1, -1, -1)
    for at in newest:
        if len(wanted) >= ACK_RANGES_MAX:
            break
        if at not in wanted:
            wanted.append(at)
    chosen = [ranges[at] for at in sorted(wanted)]
    return [
        encode_ack(Ack(boot, chosen[start : start + ACK_RANGES_MAX], now_ms))
        for start in range(0, len(chosen), ACK_RANGES_MAX)
    ]


def _range_at(ranges: list[tuple[int, int]], seq: int) -> int | None:
    for at, (first, last) in enumerate(ranges):
        if first <= seq <= last:
            return at
    return None
