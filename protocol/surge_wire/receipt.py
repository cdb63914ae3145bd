"""COSE Receipts (RFC 9942) over RFC 9162 SHA-256 trees, and signed tree heads (spec/log.md).

A receipt is a COSE_Sign1 by the log's key whose detached payload is a Merkle root; the proof stands in the
unprotected header. Checking one needs the entry's bytes, the log's key, and nothing else.
"""

from .cbor import decode, encode
from .cose import ALG_ED25519, HEADER_ALG, HEADER_KID, TAG_SIGN1, Envelope, encode_sign1, parse, to_be_signed
from .errors import DecodeError
from .fields import map_of, octets, uint
from .limits import HASH_LEN, PROOF_PATH_MAX, RECEIPT_LEN_MAX, SIGNATURE_LEN, TREE_SIZE_MAX, UINT53_MAX
from .merkle import consistency_valid, leaf_hash, root_from_inclusion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

HEADER_VDS = 395
HEADER_VDP = 396
VDS_RFC9162_SHA256 = 1
PROOF_INCLUSION = -1
PROOF_CONSISTENCY = -2
LOG_KID_LEN = 16  # the first bytes of SHA-256 of the log's public key

HEAD_TREE_SIZE = 1
HEAD_ROOT = 2
HEAD_TIME_MS = 3
_HEAD_LABELS = frozenset((HEAD_TREE_SIZE, HEAD_ROOT, HEAD_TIME_MS))


class TreeHead:
    """A tree's size and root at a moment of the log's clock."""

    __slots__ = ("root", "time_ms", "tree_size")

    def __init__(self, tree_size: int, root: bytes, time_ms: int) -> None:
        self.tree_size = tree_size
        self.root = root
        self.time_ms = time_ms


def _protected(kid: bytes) -> "dict[int, Any]":
    return {HEADER_ALG: ALG_ED25519, HEADER_KID: kid, HEADER_VDS: VDS_RFC9162_SHA256}


def encode_inclusion_receipt(
    kid: bytes,
    sign: "Callable[[bytes], bytes]",
    index: int,
    tree_size: int,
    path: "list[bytes]",
    root: bytes,
) -> bytes:
    """Receipt of inclusion (RFC 9942 section 5.2.1) of leaf ``index`` in the tree of ``tree_size`` with
    ``root``."""
    proof = encode([tree_size, index, path])
    return encode_sign1(_protected(kid), {HEADER_VDP: {PROOF_INCLUSION: [proof]}}, root, sign, detached=True)


def encode_consistency_receipt(
    kid: bytes,
    sign: "Callable[[bytes], bytes]",
    size_1: int,
    size_2: int,
    path: "list[bytes]",
    root_2: bytes,
) -> bytes:
    """Receipt of consistency (RFC 9942 section 5.3.1): the tree of ``size_2`` extends that of ``size_1``."""
    proof = encode([size_1, size_2, path])
    return encode_sign1(
        _protected(kid), {HEADER_VDP: {PROOF_CONSISTENCY: [proof]}}, root_2, sign, detached=True
    )


def _open(receipt: bytes, kind: int) -> "tuple[Envelope, list[Any]]":
    """The envelope and its one proof of ``kind``, shapes checked."""
    if len(receipt) > RECEIPT_LEN_MAX:
        raise DecodeError("too long")
    envelope = parse(TAG_SIGN1, receipt)
    if envelope.protected.get(HEADER_ALG) != ALG_ED25519 or len(envelope.proof) != SIGNATURE_LEN:
        raise DecodeError("receipt not signed with Ed25519")
    if envelope.protected.get(HEADER_VDS) != VDS_RFC9162_SHA256:
        raise DecodeError("receipt of another data structure")
    if envelope.payload is not None:
        raise DecodeError("receipt's payload not detached")
    proofs = envelope.unprotected.get(HEADER_VDP)
    if type(proofs) is not dict or type(proofs.get(kind)) is not list or len(proofs[kind]) != 1:
        raise DecodeError("receipt without the one proof")
    if type(proofs[kind][0]) is not bytes:
        raise DecodeError("receipt without the one proof")
    proof = decode(proofs[kind][0])
    if (
        type(proof) is not list
        or len(proof) != 3
        or type(proof[2]) is not list
        or len(proof[2]) > PROOF_PATH_MAX
    ):
        raise DecodeError("proof not of its shape")
    for number in proof[:2]:
        if type(number) is not int or not 0 <= number <= TREE_SIZE_MAX:
            raise DecodeError("proof not of its shape")
    return envelope, proof


def verify_inclusion_receipt(
    receipt: bytes, entry: bytes, verify: "Callable[[bytes, bytes], bool]"
) -> "tuple[int, int, bytes]":
    """Check that the log vouches for ``entry``: ``(index, tree size, root)``, or DecodeError.

    ``verify(signed, signature)`` checks an Ed25519 signature under the log's key.
    """
    envelope, (size, index, path) = _open(receipt, PROOF_INCLUSION)
    root = root_from_inclusion(leaf_hash(entry), index, size, path)
    if not verify(to_be_signed(TAG_SIGN1, envelope.protected_bytes, root), envelope.proof):
        raise DecodeError("signature not valid")
    return index, size, root


def verify_consistency_receipt(
    receipt: bytes, root_1: bytes, root_2: bytes, verify: "Callable[[bytes, bytes], bool]"
) -> "tuple[int, int]":
    """Check that the log vouches for root_2 extending root_1: ``(size 1, size 2)``, or DecodeError."""
    envelope, (size_1, size_2, path) = _open(receipt, PROOF_CONSISTENCY)
    if not verify(to_be_signed(TAG_SIGN1, envelope.protected_bytes, root_2), envelope.proof):
        raise DecodeError("signature not valid")
    if not consistency_valid(size_1, root_1, size_2, root_2, path):
        raise DecodeError("trees not consistent")
    return size_1, size_2


def seal_tree_head(kid: bytes, sign: "Callable[[bytes], bytes]", head: TreeHead) -> bytes:
    """A signed tree head: COSE_Sign1 with the head attached as payload."""
    payload = encode({HEAD_TREE_SIZE: head.tree_size, HEAD_ROOT: head.root, HEAD_TIME_MS: head.time_ms})
    return encode_sign1({HEADER_ALG: ALG_ED25519, HEADER_KID: kid}, {}, payload, sign)


def open_tree_head(data: bytes, verify: "Callable[[bytes, bytes], bool]") -> TreeHead:
    """The head, if the log's key signed it. Raises DecodeError."""
    if len(data) > RECEIPT_LEN_MAX:
        raise DecodeError("too long")
    envelope = parse(TAG_SIGN1, data)
    if envelope.protected.get(HEADER_ALG) != ALG_ED25519 or envelope.payload is None:
        raise DecodeError("tree head not signed with Ed25519")
    if not verify(to_be_signed(TAG_SIGN1, envelope.protected_bytes, envelope.payload), envelope.proof):
        raise DecodeError("signature not valid")
    fields = map_of(decode(envelope.payload), _HEAD_LABELS)
    return TreeHead(
        uint(fields, HEAD_TREE_SIZE, TREE_SIZE_MAX),
        octets(fields, HEAD_ROOT, HASH_LEN),
        uint(fields, HEAD_TIME_MS, UINT53_MAX),
    )
