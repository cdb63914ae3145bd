"""Merkle trees as RFC 9162 section 2.1 defines them: hashes, proofs, and their verification.

Verifiers are the sections' algorithms with two guards that naive ones lack: every hash is 32 bytes, and a
path longer than the tree is deep is refused before it is walked. Builders read stored hashes of complete
subtrees through a callback, so a log of any size is never held in memory.
"""

import hashlib

from .errors import DecodeError
from .limits import HASH_LEN, PROOF_PATH_MAX, TREE_SIZE_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash of a leaf (section 2.1.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node (section 2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def _check_path(path: "Sequence[bytes]") -> None:
    if len(path) > PROOF_PATH_MAX:
        raise DecodeError("proof too long")
    for item in path:
        if type(item) is not bytes or len(item) != HASH_LEN:
            raise DecodeError("hash not 32 bytes")


def root_from_inclusion(leaf: bytes, index: int, size: int, path: "Sequence[bytes]") -> bytes:
    """The root that an inclusion proof leads to (section 2.1.3.2). Raises DecodeError for an ill-shaped
    proof."""
    if type(leaf) is not bytes or len(leaf) != HASH_LEN:
        raise DecodeError("hash not 32 bytes")
    if not 0 <= index < size <= TREE_SIZE_MAX:
        raise DecodeError("index not in the tree")
    _check_path(path)
    node = index
    last = size - 1
    root = leaf
    for sibling in path:
        if last == 0:
            raise DecodeError("proof too long")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            root = node_hash(root, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise DecodeError("proof too short")
    return root


def consistency_valid(
    size_1: int, root_1: bytes, size_2: int, root_2: bytes, path: "Sequence[bytes]"
) -> bool:
    """Whether the tree of ``size_2`` extends the tree of ``size_1`` (section 2.1.4.2)."""
    if not 0 <= size_1 <= size_2 <= TREE_SIZE_MAX or len(root_1) != HASH_LEN or len(root_2) != HASH_LEN:
        return False
    try:
        _check_path(path)
    except DecodeError:
        return False
    if size_1 == size_2:
        return not path and root_1 == root_2
    if size_1 == 0:
        return not path and root_1 == EMPTY_ROOT
    hashes = list(path)
    if not size_1 & (size_1 - 1):
        hashes.insert(0, root_1)
    if not hashes:
        return False
    first = size_1 - 1
    second = size_2 - 1
    while first & 1:
        first >>= 1
        second >>= 1
    old = new = hashes[0]
    for i in range(1, len(hashes)):
        if second == 0:
            return False
        item = hashes[i]
        if first & 1 or first == second:
            old = node_hash(item, old)
            new = node_hash(item, new)
            while not first & 1 and first:
                first >>= 1
                second >>= 1
        else:
            new = node_hash(new, item)
        first >>= 1
        second >>= 1
    return second == 0 and old == root_1 and new == root_2


def _split(size: int) -> int:
    """The largest power of two below ``size`` (section 2.1.1)."""
    k = 1
    while k << 1 < size:
        k <<= 1
    return k


def subtree_root(node: "Callable[[int, int], bytes]", start: int, end: int) -> bytes:
    """MTH of leaves ``start`` to ``end`` - 1, ``start`` a multiple of the enclosing power of two.

    ``node(level, index)`` gives the stored hash of the complete subtree over leaves
    ``index << level`` to ``(index + 1 << level) - 1``; level 0 are leaf hashes.
    """
    count = end - start
    if count == 0:
        return EMPTY_ROOT
    if not count & (count - 1):
        level = 0
        while 1 << level < count:
            level += 1
        return node(level, start >> level)
    k = _split(count)
    return node_hash(subtree_root(node, start, start + k), subtree_root(node, start + k, end))


def inclusion_path(node: "Callable[[int, int], bytes]", index: int, size: int) -> "list[bytes]":
    """PATH(index, D[size]) of section 2.1.3.1, the leaf's sibling first."""
    if not 0 <= index < size:
        raise DecodeError("index not in the tree")
    path = []
    start = 0
    end = size
    while end - start > 1:
        k = _split(end - start)
        if index < start + k:
            path.append(subtree_root(node, start + k, end))
            end = start + k
        else:
            path.append(subtree_root(node, start, start + k))
            start += k
    path.reverse()
    return path


def consistency_path(node: "Callable[[int, int], bytes]", size_1: int, size_2: int) -> "list[bytes]":
    """PROOF(size_1, D[size_2]) of section 2.1.4.1; empty where the sizes are equal or the first is 0."""
    if not 0 <= size_1 <= size_2:
        raise DecodeError("first tree larger than the second")
    if size_1 in (0, size_2):
        return []
    path = []
    start = 0
    end = size_2
    whole = True  # SUBPROOF's flag: the old tree so far is a subtree that the verifier knows
    while size_1 != end:
        k = _split(end - start)
        if size_1 <= start + k:
            path.append(subtree_root(node, start + k, end))
            end = start + k
        else:
            path.append(subtree_root(node, start, start + k))
            start += k
            whole = False
    if not whole:
        path.append(subtree_root(node, start, end))
    path.reverse()
    return path
