"""The right edge of a Merkle tree: all that is needed to append to it, whatever its size.

Place in the flow: the pure core of `MerkleLog`. ``surge_wire.merkle`` has the proofs and the hashing rules.

Does not: store or sign.

Rules it keeps: only complete subtrees are nodes, so a node never changes once it is made. A tree of ``size``
leaves has one peak for each bit that is set in ``size``: the roots of its largest complete subtrees, from
left to right.
"""

from collections.abc import Callable
from dataclasses import dataclass

from surge_backend.errors import InvariantViolated
from surge_wire.limits import TREE_SIZE_MAX
from surge_wire.merkle import node_hash, subtree_root

NodeKey = tuple[int, int]  # level, index: the complete subtree over leaves index << level and on
Nodes = dict[NodeKey, bytes]


def peak_keys(size: int) -> list[NodeKey]:
    """Where the peaks of a tree of ``size`` leaves stand."""
    keys = []
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            keys.append((level, start >> level))
            start += 1 << level
    return keys


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree's size, root and peaks."""

    size: int
    root: bytes
    peaks: Nodes

    @classmethod
    def of(cls, size: int, node: Callable[[int, int], bytes]) -> "Frontier":
        """The frontier of a tree whose complete subtrees ``node(level, index)`` gives."""
        peaks = {key: node(*key) for key in peak_keys(size)}
        return cls(size, subtree_root(lambda level, index: peaks[level, index], 0, size), peaks)

    def append(self, leaf: bytes) -> tuple["Frontier", Nodes, list[bytes]]:
        """The tree with one more leaf hash: its frontier, the nodes that this completed, the leaf's
        inclusion path."""
        if self.size >= TREE_SIZE_MAX:
            raise InvariantViolated(f"the log is full: {TREE_SIZE_MAX} entries")
        level, index = 0, self.size
        made: Nodes = {(0, index): leaf}
        root, path = leaf, []
        while index & 1:
            left = self.peaks[level, index - 1]
            path.append(left)
            root = node_hash(left, root)
            level, index = level + 1, index >> 1
            made[level, index] = root
        size = self.size + 1
        kept = peak_keys(size)[:-1]  # the last is the one just made
        # Nothing is to the right of the last leaf: what is left joins from the right.
        peaks = {key: self.peaks[key] for key in kept}
        for left in reversed(peaks.values()):
            path.append(left)
            root = node_hash(left, root)
        peaks[level, index] = made[level, index]
        return Frontier(size, root, peaks), made, path
