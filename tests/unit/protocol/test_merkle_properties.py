"""Proofs of trees of any size verify, and no proof verifies for anything else."""

import contextlib
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from surge_wire import merkle
from surge_wire.errors import DecodeError

LEAVES = [merkle.leaf_hash(bytes([n])) for n in range(130)]


def node(level: int, index: int) -> bytes:
    if level == 0:
        return LEAVES[index]
    return merkle.node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))


def recursive_root(leaves: list[bytes]) -> bytes:
    """MTH as RFC 9162 section 2.1.1 writes it, as an oracle of its own."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + recursive_root(leaves[:k]) + recursive_root(leaves[k:])).digest()


def test_roots_are_those_of_the_definition() -> None:
    for size in range(len(LEAVES) + 1):
        assert merkle.subtree_root(node, 0, size) == recursive_root(LEAVES[:size])


@given(st.data())
def test_inclusion(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(LEAVES)))
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion_path(node, index, size)
    root = recursive_root(LEAVES[:size])
    assert merkle.root_from_inclusion(LEAVES[index], index, size, path) == root
    other = data.draw(st.integers(0, size - 1).filter(lambda n: n != index)) if size > 1 else None
    if other is not None:
        found = b""
        with contextlib.suppress(DecodeError):
            found = merkle.root_from_inclusion(LEAVES[index], other, size, path)
        assert found != root


@given(st.data())
def test_consistency(data: st.DataObject) -> None:
    size_2 = data.draw(st.integers(0, len(LEAVES)))
    size_1 = data.draw(st.integers(0, size_2))
    path = merkle.consistency_path(node, size_1, size_2)
    root_1 = recursive_root(LEAVES[:size_1])
    root_2 = recursive_root(LEAVES[:size_2])
    assert merkle.consistency_valid(size_1, root_1, size_2, root_2, path)
    forged = data.draw(st.binary(min_size=32, max_size=32))
    assert not merkle.consistency_valid(size_1, forged, size_2, root_2, path)
    if size_1:  # every tree extends the empty one
        assert not merkle.consistency_valid(size_1, root_1, size_2, forged, path)
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        changed = [*path[:at], forged, *path[at + 1 :]]
        assert not merkle.consistency_valid(size_1, root_1, size_2, root_2, changed)
