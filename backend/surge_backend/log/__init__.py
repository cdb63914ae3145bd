"""The public log: a Merkle tree over settlements that only grows, and the signed proofs that it did.

`MerkleLog` is what others use; ``frontier`` is its pure core, ``check`` recomputes a stored log from its
entries.
"""

from surge_backend.log.merkle_log import Appended, MerkleLog, has_head

__all__ = ("Appended", "MerkleLog", "has_head")
