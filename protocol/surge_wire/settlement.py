"""Settlement: the backend's decision on one batch, and the entry that its Merkle log holds
(spec/settlement.md).

It names the batch by hash, gives every report its verdict and lists what was credited, so the log commits
to the decision and not only to the data: who has the batch can recompute every verdict that needs no
secret, and who has the settlements can recompute every balance.
"""

from .cbor import decode, encode
from .errors import DecodeError
from .fields import array, map_of, octets, text, uint
from .ids import GATEWAY, is_id
from .limits import (
    BATCH_REPORTS_MAX,
    HASH_LEN,
    ID_LEN,
    SETTLEMENT_ENTRIES_MAX,
    SETTLEMENT_LEN_MAX,
    UINT32_MAX,
    UINT53_MAX,
)
from .verdicts import ACCEPTED, NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BATCH_HASH = 1
GATEWAY_ID = 2
BATCH_SEQ = 3
RECEIVED_MS = 4
TARIFF_VERSION = 5
REPORT_COUNT = 6
REJECTIONS = 7
CREDITS = 8
_LABELS = frozenset(
    (BATCH_HASH, GATEWAY_ID, BATCH_SEQ, RECEIVED_MS, TARIFF_VERSION, REPORT_COUNT, REJECTIONS, CREDITS)
)
ACCOUNT_LEN_MAX = 64


class Settlement:
    """``rejections`` are ``(index, verdict code)`` of the reports that were not accepted, rising by index;
    ``credits`` are the transfer's legs ``(account, micro-credits)``, summing to zero; times are the
    backend's clock."""

    __slots__ = (
        "batch_hash",
        "batch_seq",
        "credits",
        "gateway_id",
        "received_ms",
        "rejections",
        "report_count",
        "tariff_version",
    )

    def __init__(
        self,
        batch_hash: bytes,
        gateway_id: str,
        batch_seq: int,
        received_ms: int,
        tariff_version: int,
        report_count: int,
        rejections: "list[tuple[int, int]]",
        credits: "list[tuple[str, int]]",
    ) -> None:
        self.batch_hash = batch_hash
        self.gateway_id = gateway_id
        self.batch_seq = batch_seq
        self.received_ms = received_ms
        self.tariff_version = tariff_version
        self.report_count = report_count
        self.rejections = rejections
        self.credits = credits

    def verdicts(self) -> "list[int]":
        """One code per report, in the batch's order."""
        codes = [ACCEPTED] * self.report_count
        for index, code in self.rejections:
            codes[index] = code
        return codes


def encode_settlement(settlement: Settlement) -> bytes:
    """The log entry's bytes."""
    return encode(
        {
            BATCH_HASH: settlement.batch_hash,
            GATEWAY_ID: settlement.gateway_id,
            BATCH_SEQ: settlement.batch_seq,
            RECEIVED_MS: settlement.received_ms,
            TARIFF_VERSION: settlement.tariff_version,
            REPORT_COUNT: settlement.report_count,
            REJECTIONS: settlement.rejections,
            CREDITS: settlement.credits,
        }
    )


def _decode_rejections(value: "list[Any]", report_count: int) -> "list[tuple[int, int]]":
    rejections = []
    floor = -1
    for pair in value:
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not int or type(pair[1]) is not int:
            raise DecodeError("rejection not a pair")
        index, code = pair
        if not floor < index < report_count or code not in NAMES or code == ACCEPTED:
            raise DecodeError("rejection out of range")
        floor = index
        rejections.append((index, code))
    return rejections


def _decode_credits(value: "list[Any]") -> "list[tuple[str, int]]":
    credits = []
    total = 0
    for pair in value:
        if type(pair) is not list or len(pair) != 2 or type(pair[1]) is not int:
            raise DecodeError("credit not a pair")
        if not -UINT53_MAX <= pair[1] <= UINT53_MAX:
            raise DecodeError("credit out of range")
        total += pair[1]
        credits.append((text(pair[0], ACCOUNT_LEN_MAX), pair[1]))
    if total != 0:
        raise DecodeError("credits don't sum to zero")
    return credits


def decode_settlement(data: bytes) -> Settlement:
    """Raises DecodeError, also for credits that do not sum to zero."""
    if len(data) > SETTLEMENT_LEN_MAX:
        raise DecodeError("too long")
    fields = map_of(decode(data), _LABELS)
    gateway_id = text(fields.get(GATEWAY_ID), ID_LEN)
    if not is_id(GATEWAY, gateway_id):
        raise DecodeError("id not valid")
    report_count = uint(fields, REPORT_COUNT, BATCH_REPORTS_MAX)
    return Settlement(
        octets(fields, BATCH_HASH, HASH_LEN),
        gateway_id,
        uint(fields, BATCH_SEQ, UINT53_MAX),
        uint(fields, RECEIVED_MS, UINT53_MAX),
        uint(fields, TARIFF_VERSION, UINT32_MAX),
        report_count,
        _decode_rejections(array(fields, REJECTIONS, BATCH_REPORTS_MAX), report_count),
        _decode_credits(array(fields, CREDITS, SETTLEMENT_ENTRIES_MAX)),
    )
