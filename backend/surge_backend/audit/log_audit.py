"""The log of an export, recomputed from its leaves: every node, root, head and receipt.

Place in the flow: ``verifying`` hands in one entry after another; everything else about an entry is checked
elsewhere. Needs nothing but the log's public key.

Rules it keeps: a tree is grown from the settlements alone, so each head extends the one before it, or is
found out. A head that the caller remembers from before must be the root of the tree of that size.
"""

from collections.abc import Callable, Iterable

from surge_backend.audit import findings as kinds
from surge_backend.audit.findings import Findings, entry_place
from surge_backend.audit.items import Entry
from surge_backend.log.frontier import Frontier
from surge_wire import ed25519
from surge_wire.errors import DecodeError
from surge_wire.merkle import EMPTY_ROOT, leaf_hash
from surge_wire.receipt import open_tree_head, verify_inclusion_receipt
from surge_wire.submission import decode_submission

Verify = Callable[[bytes, bytes], bool]


class LogAudit:
    """The tree so far."""

    def __init__(self, findings: Findings, log_public_key: bytes) -> None:
        self._findings = findings
        self._verify: Verify = ed25519.verifier(log_public_key)
        self._remembered: dict[int, bytes] = {}
        self._tree = Frontier(0, EMPTY_ROOT, {})
        self.head = b""  # the newest, as signed

    @property
    def size(self) -> int:
        """Entries so far."""
        return self._tree.size

    @property
    def root(self) -> bytes:
        """The root of all entries so far."""
        return self._tree.root

    def remember(self, heads: Iterable[bytes]) -> None:
        """Before the first entry: the log has to extend these heads, which it signed earlier."""
        for envelope in heads:
            try:
                head = open_tree_head(envelope, self._verify)
            except DecodeError as error:
                what = "a head that was kept isn't signed by the log's key"
                self._findings.lie(kinds.LOG_KEY, what, "kept head", "a head of this log", str(error))
                continue
            known = self._remembered.setdefault(head.tree_size, head.root)
            what = "the log signed two heads of one size"
            self._findings.equal(kinds.HEAD, what, f"head of {head.tree_size} entries", known, head.root)
        self._check_remembered()

    def take(self, entry: Entry) -> None:
        """Check the next entry's place, nodes, head and receipt."""
        found = self._findings
        where = entry_place(entry.index)
        found.equal(kinds.ENTRY, "an entry is missing or out of order", where, self.size, entry.index)
        self._tree, made, _ = self._tree.append(leaf_hash(entry.settlement))
        for (level, index), stored in zip(made, entry.nodes, strict=False):
            place = f"{where}, node {level}/{index}"
            what = "a node of the tree doesn't follow from the entries"
            found.equal(kinds.NODE, what, place, made[level, index], stored)
        what = "nodes of the tree are missing, or too many"
        found.equal(kinds.NODE, what, where, len(made), len(entry.nodes))
        self._head(entry, where)
        self._receipt(entry, where)
        self._check_remembered()

    def finish(self) -> None:
        """The end of the log: what is remembered has to be within it."""
        for size, root in sorted(self._remembered.items()):
            self._findings.lie(
                kinds.HEAD,
                "the log was cut: it had more entries before",
                f"head of {size} entries, root {root.hex()}",
                f"at least {size} entries",
                f"{self.size} entries",
            )

    def _check_remembered(self) -> None:
        root = self._remembered.pop(self.size, None)
        if root is not None:
            what = "the log was forked: it is not the one that was seen before"
            self._findings.equal(kinds.HEAD, what, f"head of {self.size} entries", root, self.root)
            self._findings.checked["heads remembered"] += 1

    def _head(self, entry: Entry, where: str) -> None:
        found = self._findings
        try:
            head = open_tree_head(entry.head, self._verify)
        except DecodeError as error:
            found.lie(kinds.HEAD, "a head isn't signed by the log's key", where, "a signed head", str(error))
            return
        found.equal(kinds.HEAD, "a head is of another size", where, self.size, head.tree_size)
        what = "a signed head has another root than the log's entries"
        found.equal(kinds.HEAD, what, where, self.root, head.root)
        stored = (entry.head_root, entry.head_time_ms)
        what = "a head's row says something else than was signed"
        found.equal(kinds.HEAD, what, where, (head.root, head.time_ms), stored)
        self.head = entry.head
        found.checked["heads"] += 1

    def _receipt(self, entry: Entry, where: str) -> None:
        found = self._findings
        try:
            settlement, receipt = decode_submission(entry.answer)
            index, size, root = verify_inclusion_receipt(receipt, settlement, self._verify)
        except DecodeError as error:
            what = "a receipt doesn't verify under the log's key"
            found.lie(kinds.RECEIPT, what, where, "a receipt for this entry", str(error))
            return
        what = "a gateway was given another settlement than the log holds"
        found.equal(kinds.RECEIPT, what, where, entry.settlement, settlement)
        place = (entry.index, entry.index + 1)
        found.equal(kinds.RECEIPT, "a receipt is for another place", where, place, (index, size))
        what = "a receipt vouches for another tree than the log's"
        found.equal(kinds.RECEIPT, what, where, self.root, root)
        found.checked["receipts"] += 1
