"""A backend for tests, written with the real `surge_wire`: real signatures, a real Merkle tree, real
receipts.

It checks what a gateway owes it (signature, chain, one content per seq) and judges reports by their MAC.
Faults are switched on by tests.
"""

import hashlib
from dataclasses import dataclass, field

from surge_wire.batch import FIRST_PREVIOUS, Batch, chain_hash, decode_batch, open_batch
from surge_wire.ed25519 import public_key, signer, verifier
from surge_wire.merkle import consistency_path, inclusion_path, leaf_hash, node_hash, subtree_root
from surge_wire.receipt import (
    LOG_KID_LEN,
    TreeHead,
    encode_consistency_receipt,
    encode_inclusion_receipt,
    seal_tree_head,
)
from surge_wire.settlement import Settlement, encode_settlement
from surge_wire.submission import encode_submission


class Conflict(Exception):
    """The backend refuses the batch: `code` as in its problem document."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Log:
    """A Merkle log that keeps all hashes of complete subtrees."""

    def __init__(self, seed: bytes = b"L" * 32) -> None:
        self.public_key = public_key(seed)
        self.kid = hashlib.sha256(self.public_key).digest()[:LOG_KID_LEN]
        self.sign = signer(seed)
        self.leaves: list[bytes] = []

    def node(self, level: int, index: int) -> bytes:
        if level == 0:
            return self.leaves[index]
        return node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def root(self, size: int) -> bytes:
        return subtree_root(self.node, 0, size)

    def append(self, entry: bytes) -> bytes:
        """The receipt of inclusion."""
        self.leaves.append(leaf_hash(entry))
        return self.inclusion(len(self.leaves) - 1, len(self.leaves))

    def inclusion(self, index: int, size: int) -> bytes:
        path = inclusion_path(self.node, index, size)
        return encode_inclusion_receipt(self.kid, self.sign, index, size, path, self.root(size))

    def consistency(self, size_1: int, size_2: int) -> bytes:
        path = consistency_path(self.node, size_1, size_2)
        return encode_consistency_receipt(self.kid, self.sign, size_1, size_2, path, self.root(size_2))

    def head(self) -> bytes:
        size = len(self.leaves)
        return seal_tree_head(self.kid, self.sign, TreeHead(size, self.root(size), 1_700_000_000_000))


@dataclass
class BackendState:
    """One gateway's chain, the log, and what arrived."""

    gateway_id: str
    gateway_key: bytes
    log: Log = field(default_factory=Log)
    next_seq: int = 0
    previous: bytes = FIRST_PREVIOUS
    answers: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # seq -> (hash, answer)
    batches: list[Batch] = field(default_factory=list)

    @property
    def reports(self) -> list[bytes]:
        """Every report that arrived, in order."""
        return [report for batch in self.batches for report in batch.reports]

    def submit(self, envelope: bytes) -> bytes:
        """The answer's bytes. Raises Conflict."""
        gateway_id, opened = open_batch(envelope)
        if gateway_id != self.gateway_id or not verifier(self.gateway_key)(opened.signed, opened.proof):
            raise Conflict("signature_invalid")
        batch = decode_batch(opened.payload)
        digest = hashlib.sha256(envelope).digest()
        if batch.seq in self.answers:
            if self.answers[batch.seq][0] != digest:
                raise Conflict("batch_conflict")
            return self.answers[batch.seq][1]
        if batch.seq != self.next_seq:
            raise Conflict("out_of_order")
        if batch.previous != self.previous:
            raise Conflict("chain_broken")
        settlement = encode_settlement(
            Settlement(digest, gateway_id, batch.seq, 1_700_000_000_000, 1, len(batch.reports), [], [])
        )
        answer = encode_submission(settlement, self.log.append(settlement))
        self.answers[batch.seq] = (digest, answer)
        self.batches.append(batch)
        self.next_seq += 1
        self.previous = chain_hash(opened.payload)
        return answer
