"""Recomputing a stored log from its entries: does it still say what was signed?

Place in the flow: `MerkleLog` runs it when it opens and from time to time, ``invariants`` and an auditor's
command run it in full. Reads only.

Does not: repair, and knows no other copy of the log: a log that was cut back together with its heads is
noticed by gateways and auditors, who keep heads and receipts of their own.

Rules it keeps: entries are the settlements in ``batches``, by ``log_index``. Every entry's leaf, every node,
and every signed head has to follow from them.
"""

from collections.abc import Callable, Iterator
from typing import Final

from sqlalchemy import Connection, func, select

from surge_backend.db.bulk import select_by_keys
from surge_backend.db.schema import batches, log_heads, log_nodes
from surge_backend.errors import LogForked
from surge_backend.log.frontier import Frontier, NodeKey, Nodes
from surge_wire.errors import DecodeError
from surge_wire.merkle import EMPTY_ROOT, leaf_hash
from surge_wire.receipt import open_tree_head

VIOLATIONS_MAX: Final = 20  # listed; one is enough to stop signing
_CHUNK: Final = 500  # entries read at a time

Verify = Callable[[bytes, bytes], bool]


def node_reader(connection: Connection) -> Callable[[int, int], bytes]:
    """``node(level, index)`` from the database. A missing node raises LogForked."""

    def node(level: int, index: int) -> bytes:
        stored = connection.execute(
            select(log_nodes.c.hash).where(log_nodes.c.level == level, log_nodes.c.idx == index)
        ).scalar()
        if stored is None:
            raise LogForked(f"the log lacks node {level}/{index}; restore the database from a backup")
        return bytes(stored)

    return node


def check_log(connection: Connection, verify: Verify | None = None, tail: int | None = None) -> list[str]:
    """Every way in which the stored log contradicts itself, in words; empty when it is sound.

    ``verify`` checks signatures of heads; without it they aren't checked. With ``tail``, the tree before the
    last ``tail`` entries is taken from stored nodes instead of recomputed: quick, for every start.
    """
    found: list[str] = []
    try:
        for violation in _violations(connection, verify, tail):
            found.append(violation)
            if len(found) == VIOLATIONS_MAX:
                break
    except LogForked as error:
        found.append(str(error))
    return found


def _violations(connection: Connection, verify: Verify | None, tail: int | None) -> Iterator[str]:
    size = connection.execute(select(func.max(log_heads.c.tree_size))).scalar() or 0
    count_entries = select(func.count(batches.c.log_index), func.max(batches.c.log_index))
    count_leaves = select(func.count(log_nodes.c.idx), func.max(log_nodes.c.idx)).where(
        log_nodes.c.level == 0
    )
    for name, query in (("entries", count_entries), ("leaves", count_leaves)):
        count, last = connection.execute(query).one()
        if count != size or (count and last != size - 1):
            yield f"the newest head is of {size} entries, the log has {count} {name} up to index {last}"
    start = 0 if tail is None else max(0, size - tail)
    frontier = Frontier.of(start, node_reader(connection)) if start else Frontier(0, EMPTY_ROOT, {})
    yield from _check_heads(connection, verify, frontier, {start: frontier.root})
    while frontier.size < size:
        first = frontier.size
        rows = connection.execute(
            select(batches.c.log_index, batches.c.settlement)
            .where(batches.c.log_index >= first, batches.c.log_index < min(size, first + _CHUNK))
            .order_by(batches.c.log_index)
        ).all()
        if [row.log_index for row in rows] != list(range(first, min(size, first + _CHUNK))):
            yield f"entries are missing from index {first} on"
            return
        made: Nodes = {}
        roots: dict[int, bytes] = {}
        for row in rows:
            if type(row.settlement) is not bytes:
                yield f"entry {row.log_index} is no byte string"
                return
            frontier, nodes, _ = frontier.append(leaf_hash(row.settlement))
            made |= nodes
            roots[frontier.size] = frontier.root
        yield from _check_nodes(connection, made)
        yield from _check_heads(connection, verify, frontier, roots)


def _check_nodes(connection: Connection, made: Nodes) -> Iterator[str]:
    rows = select_by_keys(
        connection, "SELECT level, idx, hash FROM log_nodes WHERE (level, idx) IN ({keys})", made
    )
    stored: dict[NodeKey, bytes] = {(row[0], row[1]): row[2] for row in rows}
    for key, expected in made.items():
        if stored.get(key) != expected:
            yield f"node {key[0]}/{key[1]} doesn't follow from the entries"


def _check_heads(
    connection: Connection, verify: Verify | None, frontier: Frontier, roots: dict[int, bytes]
) -> Iterator[str]:
    heads = connection.execute(
        select(log_heads)
        .where(log_heads.c.tree_size >= min(roots), log_heads.c.tree_size <= max(roots))
        .order_by(log_heads.c.tree_size)
    )
    seen = set()
    for head in heads:
        seen.add(head.tree_size)
        if head.root != roots[head.tree_size]:
            yield f"the head of {head.tree_size} entries has another root than its entries"
        if verify is not None:
            try:
                signed = open_tree_head(head.envelope, verify)
            except DecodeError as error:
                yield f"the head of {head.tree_size} entries is not signed by this log's key: {error}"
                continue
            if (signed.tree_size, signed.root, signed.time_ms) != (head.tree_size, head.root, head.time_ms):
                yield f"the head of {head.tree_size} entries says something else than was signed"
    for size in roots.keys() - seen:
        if size:
            yield f"there is no head of {size} entries"
