"""Settlements, receipts, tree heads and answers to submissions."""

import hashlib

from surge_wire import batch, cbor, cose, ed25519, merkle, receipt, settlement, submission, verdicts
from vector_cases.batches import batch_payload
from vector_cases.inputs import DEVICE_ID, GATEWAY_ID, GATEWAY_SEED, LOG_SEED, OWNER_ID, TIME_MS, Case


def log_cases() -> list[Case]:
    sign = ed25519.signer(LOG_SEED)
    public_key = ed25519.public_key(LOG_SEED)
    kid = hashlib.sha256(public_key).digest()[: receipt.LOG_KID_LEN]
    batch_bytes = batch.seal_batch(GATEWAY_ID, ed25519.signer(GATEWAY_SEED), cbor.encode(batch_payload()))
    batch_hash = hashlib.sha256(batch_bytes).digest()
    decision = settlement.Settlement(
        batch_hash,
        GATEWAY_ID,
        0,
        TIME_MS + 900,
        1,
        3,
        [(1, verdicts.DUPLICATE)],
        [("issuance", -20), (f"owner:{OWNER_ID}", 20)],
    )
    entry = settlement.encode_settlement(decision)
    leaves = [merkle.leaf_hash(b"earlier"), merkle.leaf_hash(entry), merkle.leaf_hash(b"later")]

    def node(level: int, index: int) -> bytes:
        if level == 0:
            return leaves[index]
        return merkle.node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

    root_3 = merkle.subtree_root(node, 0, 3)
    root_2 = merkle.subtree_root(node, 0, 2)
    inclusion = receipt.encode_inclusion_receipt(kid, sign, 1, 3, merkle.inclusion_path(node, 1, 3), root_3)
    consistency = receipt.encode_consistency_receipt(
        kid, sign, 2, 3, merkle.consistency_path(node, 2, 3), root_3
    )
    head = receipt.seal_tree_head(kid, sign, receipt.TreeHead(3, root_3, TIME_MS + 1000))
    answer = submission.encode_submission(entry, inclusion)
    common = {"log_public_key": public_key.hex()}

    def flip(data: bytes, at: int) -> str:
        return (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]).hex()

    def inclusion_case(name: str, valid: bool, data: bytes | str, about: bytes = entry) -> Case:
        text = data if isinstance(data, str) else data.hex()
        return (
            common
            | {"name": name, "kind": "inclusion", "valid": valid, "receipt": text, "entry": about.hex()}
            | ({"index": 1, "size": 3, "root": root_3.hex()} if valid else {})
        )

    def consistency_case(name: str, valid: bool, data: bytes | str, root_1: bytes = root_2) -> Case:
        text = data if isinstance(data, str) else data.hex()
        return common | {
            "name": name,
            "kind": "consistency",
            "valid": valid,
            "receipt": text,
            "root_1": root_1.hex(),
            "root_2": root_3.hex(),
        }

    def settlement_case(name: str, valid: bool, data: bytes) -> Case:
        return {"name": name, "kind": "settlement", "valid": valid, "settlement": data.hex()} | (
            {"verdicts": decision.verdicts(), "credits": decision.credits} if valid else {}
        )

    fields = cbor.decode(entry)
    proof = cbor.encode([3, 1, merkle.inclusion_path(node, 1, 3)])
    protected = {1: -19, 4: kid, 395: 1}
    attached = cose.encode_sign1(protected, {396: {-1: [proof]}}, root_3, sign)
    wrong_vds = cose.encode_sign1(protected | {395: 2}, {396: {-1: [proof]}}, root_3, sign, detached=True)
    no_proof = cose.encode_sign1(protected, {}, root_3, sign, detached=True)
    old_alg = cose.encode_sign1(protected | {1: -8}, {396: {-1: [proof]}}, root_3, sign, detached=True)
    return [
        inclusion_case("receipt of inclusion", True, inclusion),
        inclusion_case("receipt for another entry", False, inclusion, b"earlier"),
        inclusion_case("signature flipped", False, flip(inclusion, len(inclusion) - 1)),
        inclusion_case("path flipped", False, flip(inclusion, len(inclusion) - 100)),
        inclusion_case("payload attached", False, attached),
        inclusion_case("another data structure", False, wrong_vds),
        inclusion_case("no proof", False, no_proof),
        inclusion_case("algorithm EdDSA (-8)", False, old_alg),
        inclusion_case("receipt of consistency in its place", False, consistency),
        inclusion_case("receipt cut", False, inclusion[:-1]),
        consistency_case("receipt of consistency", True, consistency),
        consistency_case("another older root", False, consistency, root_3),
        consistency_case("consistency signature flipped", False, flip(consistency, len(consistency) - 1)),
        common
        | {
            "name": "tree head",
            "kind": "head",
            "valid": True,
            "head": head.hex(),
            "size": 3,
            "root": root_3.hex(),
            "time_ms": TIME_MS + 1000,
        },
        common
        | {
            "name": "tree head, one bit of its payload flipped",
            "kind": "head",
            "valid": False,
            "head": flip(head, len(head) - 80),
        },
        settlement_case("settlement", True, entry),
        settlement_case(
            "credits don't sum to zero", False, cbor.encode(fields | {8: [["issuance", -20], ["x", 21]]})
        ),
        settlement_case("rejection beyond the batch", False, cbor.encode(fields | {7: [[3, 4]]})),
        settlement_case("rejection with an unknown code", False, cbor.encode(fields | {7: [[1, 99]]})),
        settlement_case("rejection with the code for accepted", False, cbor.encode(fields | {7: [[1, 0]]})),
        settlement_case("rejections fall", False, cbor.encode(fields | {7: [[2, 4], [1, 4]]})),
        settlement_case(
            "credit a float", False, cbor.encode(fields | {8: [["issuance", -20.0], ["x", 20.0]]})
        ),
        settlement_case("gateway id of a device", False, cbor.encode(fields | {2: DEVICE_ID})),
        common
        | {
            "name": "answer to a submission",
            "kind": "submission",
            "valid": True,
            "answer": answer.hex(),
            "batch_hash": batch_hash.hex(),
            "gateway_id": GATEWAY_ID,
            "seq": 0,
            "count": 3,
        },
        common
        | {
            "name": "answer about another batch",
            "kind": "submission",
            "valid": False,
            "answer": answer.hex(),
            "batch_hash": bytes(32).hex(),
            "gateway_id": GATEWAY_ID,
            "seq": 0,
            "count": 3,
        },
        common
        | {
            "name": "answer with another count",
            "kind": "submission",
            "valid": False,
            "answer": answer.hex(),
            "batch_hash": batch_hash.hex(),
            "gateway_id": GATEWAY_ID,
            "seq": 0,
            "count": 2,
        },
    ]
