"""The log's one writer: appends settlements, signs heads and receipts, and stops when the stored log is not
what it signed.

Place in the flow: ``ingest`` appends within its transaction; the API hands out heads, receipts and proofs.

Does not: begin or commit transactions, or read a clock. It appends only inside `Database.write`, where one
transaction at a time runs.

Rules it keeps:

* the stored head has to be the one that this process saw last, or to extend it; anything else is a fork or a
  cut: LogForked, and nothing is signed until the process starts anew and finds the log sound (invariant 4,
  threat 13);
* a receipt is for the tree right after its entry, so the same batch always has the same receipt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sqlalchemy import Connection, select

from surge_backend.db.bulk import fetch_one, insert_rows
from surge_backend.db.schema import log_heads, log_nodes
from surge_backend.errors import LogForked, NotInLog
from surge_backend.log.check import check_log, node_reader
from surge_backend.log.frontier import Frontier
from surge_wire import ed25519
from surge_wire.limits import TREE_SIZE_MAX
from surge_wire.merkle import EMPTY_ROOT, consistency_path, inclusion_path, leaf_hash, subtree_root
from surge_wire.receipt import (
    LOG_KID_LEN,
    TreeHead,
    encode_consistency_receipt,
    encode_inclusion_receipt,
    seal_tree_head,
)

_HEAD_COLUMNS: Final = ("tree_size", "root", "time_ms", "envelope")
_NEWEST: Final = "SELECT tree_size, root, time_ms, envelope FROM log_heads ORDER BY tree_size DESC LIMIT 1"
CHECK_TAIL: Final = 1_000  # entries that a quick check recomputes
CHECK_EVERY: Final = 1_000  # appends between two quick checks; at most CHECK_TAIL, so that none is left out


@dataclass(frozen=True, slots=True)
class Appended:
    """An entry's place, its receipt, and the head that vouches for it."""

    index: int
    tree_size: int
    root: bytes
    receipt: bytes


def has_head(connection: Connection) -> bool:
    """Whether a log was ever opened here."""
    return connection.execute(select(log_heads.c.tree_size).limit(1)).first() is not None


class MerkleLog:
    """The log under one Ed25519 key, given as its 32-byte seed."""

    def __init__(self, seed: bytes) -> None:
        self.public_key: Final = ed25519.public_key(seed)
        self.kid: Final = sha256(self.public_key).digest()[:LOG_KID_LEN]
        self._key: Final = ed25519.signer(seed)
        self.verify: Final[Callable[[bytes, bytes], bool]] = ed25519.verifier(self.public_key)
        self._stopped = ""
        self._seen: Frontier | None = None  # what the last append found
        self._made: Frontier | None = None  # what it made; it counts once the database has it
        self._committed = 0  # entries that are known to be on disk
        self._appends = 0

    @property
    def stopped(self) -> str:
        """Why nothing is signed any more; empty while all is well."""
        return self._stopped

    def open(self, connection: Connection, now_ms: int) -> None:
        """Before the first use, in a write transaction: sign the empty tree if there is no head, and check
        what is stored.

        Raises LogForked.
        """
        if not has_head(connection):
            self._store_head(connection, TreeHead(0, EMPTY_ROOT, now_ms))
        self.check(connection, CHECK_TAIL)

    def check(self, connection: Connection, tail: int | None = None) -> None:
        """Recompute the stored log, or its last ``tail`` entries, and compare with what was signed. Raises
        LogForked."""
        self._refuse(check_log(connection, self.verify, tail))

    def append(self, connection: Connection, entry: bytes, time_ms: int) -> Appended:
        """Append ``entry``, sign the new head and the entry's receipt. Raises LogForked.

        Every CHECK_EVERY appends, the stored log is checked as at the start.
        """
        self._appends += 1
        if self._appends % CHECK_EVERY == 0:
            # without the signatures, which would take a second
            self._refuse(check_log(connection, None, CHECK_TAIL))
        before = self._frontier(connection)
        after, nodes, path = before.append(leaf_hash(entry))
        insert_rows(
            connection,
            log_nodes,
            ("level", "idx", "hash"),
            [(level, index, node) for (level, index), node in nodes.items()],
        )
        self._store_head(connection, TreeHead(after.size, after.root, time_ms))
        receipt = encode_inclusion_receipt(self.kid, self._sign, before.size, after.size, path, after.root)
        self._seen, self._made = before, after
        return Appended(before.size, after.size, after.root, receipt)

    def confirm(self, appended: Appended) -> None:
        """Say that the transaction of ``appended`` is committed: from now on a shorter log is a cut one."""
        self._committed = max(self._committed, appended.tree_size)

    def head(self, connection: Connection) -> tuple[TreeHead, bytes]:
        """The newest head, and its signed envelope. Raises NotInLog before `open`."""
        row = fetch_one(connection, _NEWEST)
        if row is None:
            raise NotInLog("the log has no head yet")
        tree_size, root, time_ms, envelope = row
        return TreeHead(tree_size, root, time_ms), envelope

    def inclusion_receipt(self, connection: Connection, index: int, tree_size: int | None = None) -> bytes:
        """A receipt for entry ``index`` in the tree of ``tree_size`` (the newest if None). Raises NotInLog,
        LogForked."""
        newest = self.head(connection)[0].tree_size
        size = newest if tree_size is None else tree_size
        if not 0 <= index < size <= newest:
            raise NotInLog(f"the log has {newest} entries; entry {index} in a tree of {size} is not there")
        path = inclusion_path(node_reader(connection), index, size)
        return encode_inclusion_receipt(self.kid, self._sign, index, size, path, self._root(connection, size))

    def consistency_receipt(self, connection: Connection, size_1: int, size_2: int | None = None) -> bytes:
        """A receipt that the tree of ``size_2`` (the newest if None) extends that of ``size_1``. Raises
        NotInLog, LogForked."""
        newest = self.head(connection)[0].tree_size
        size = newest if size_2 is None else size_2
        if not 0 <= size_1 <= size <= newest:
            raise NotInLog(f"the log has {newest} entries; {size_1} to {size} is no range of its trees")
        path = consistency_path(node_reader(connection), size_1, size)
        return encode_consistency_receipt(
            self.kid, self._sign, size_1, size, path, self._root(connection, size)
        )

    def _sign(self, message: bytes) -> bytes:
        if self._stopped:
            raise LogForked(self._stopped)
        return self._key(message)

    def _refuse(self, violations: list[str]) -> None:
        if violations:
            self._stop(violations[0])

    def _stop(self, why: str) -> None:
        self._stopped = (
            f"{why}; the log signs nothing more: put the right log key or database back, "
            "then restart the backend"
        )
        raise LogForked(self._stopped)

    def _store_head(self, connection: Connection, head: TreeHead) -> None:
        sealed = seal_tree_head(self.kid, self._sign, head)
        insert_rows(connection, log_heads, _HEAD_COLUMNS, [(head.tree_size, head.root, head.time_ms, sealed)])

    def _root(self, connection: Connection, size: int) -> bytes:
        """The root that was signed for ``size`` entries, if the nodes still lead to it."""
        root = subtree_root(node_reader(connection), 0, size)
        signed = connection.execute(select(log_heads.c.root).where(log_heads.c.tree_size == size)).scalar()
        if signed != root:
            self._stop(f"the tree of {size} entries has another root than was signed")
        return root

    def _frontier(self, connection: Connection) -> Frontier:
        """The right edge as the database has it now, proven to extend what this process saw before."""
        head = self.head(connection)[0]
        if head.tree_size < self._committed:
            self._stop(f"the log had {self._committed} entries and now has {head.tree_size}: it was cut")
        for known in (self._made, self._seen):
            if known is not None and (known.size, known.root) == (head.tree_size, head.root):
                return known
        if not 0 <= head.tree_size <= TREE_SIZE_MAX:
            self._stop(f"the newest head is of {head.tree_size} entries")
        node = node_reader(connection)
        frontier = Frontier.of(head.tree_size, node)
        if frontier.root != head.root:
            self._stop(f"the stored tree of {head.tree_size} entries has another root than was signed")
        if self._seen is not None and subtree_root(node, 0, self._seen.size) != self._seen.root:
            self._stop(f"the first {self._seen.size} entries are not those that were signed: it was forked")
        return frontier
