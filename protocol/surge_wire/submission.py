"""Submission answer: what the backend returns for a batch: the settlement and the receipt for it
(spec/log.md).

``[settlement bytes, receipt bytes]``. A gateway forgets a batch only when ``verify_submission`` passes.
"""

from .cbor import decode, encode
from .errors import DecodeError
from .limits import RECEIPT_LEN_MAX, SETTLEMENT_LEN_MAX
from .receipt import verify_inclusion_receipt
from .settlement import Settlement, decode_settlement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

SUBMISSION_LEN_MAX = RECEIPT_LEN_MAX + SETTLEMENT_LEN_MAX + 16


def encode_submission(settlement: bytes, receipt: bytes) -> bytes:
    """The answer's body."""
    return encode([settlement, receipt])


def decode_submission(data: bytes) -> "tuple[bytes, bytes]":
    """``(settlement bytes, receipt bytes)``, unverified. Raises DecodeError."""
    if len(data) > SUBMISSION_LEN_MAX:
        raise DecodeError("too long")
    parts = decode(data)
    if (
        type(parts) is not list
        or len(parts) != 2
        or type(parts[0]) is not bytes
        or type(parts[1]) is not bytes
    ):
        raise DecodeError("not a submission answer")
    return parts[0], parts[1]


def verify_submission(
    data: bytes,
    batch_hash: bytes,
    gateway_id: str,
    batch_seq: int,
    report_count: int,
    verify: "Callable[[bytes, bytes], bool]",
) -> "tuple[Settlement, int, int, bytes]":
    """``(settlement, log index, tree size, root)``, if the log vouches for it and it is about this batch.

    Raises DecodeError.
    """
    settlement_bytes, receipt = decode_submission(data)
    index, size, root = verify_inclusion_receipt(receipt, settlement_bytes, verify)
    settlement = decode_settlement(settlement_bytes)
    if settlement.batch_hash != batch_hash or settlement.gateway_id != gateway_id:
        raise DecodeError("settlement of another batch")
    if settlement.batch_seq != batch_seq or settlement.report_count != report_count:
        raise DecodeError("settlement of another batch")
    return settlement, index, size, root
