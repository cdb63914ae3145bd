"""What accepted reports are worth: pure, integers only.

Place in the flow: ``ingest`` counts samples and bytes of accepted reports per account, this module turns
them into the legs of one transfer, ``posting`` writes them.

Does not: know devices, read a clock, round. Uptime alone earns nothing.

Rules it keeps: prices are exact. A batch's worth is counted in numerators of 1/NUMERATORS_PER_MICROCREDIT;
whole micro-credits are paid, and what is left is carried on the account to its next batch, so no dust is
lost or invented.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from surge_backend.errors import LedgerRefused
from surge_wire.limits import UINT32_MAX, UINT53_MAX

BASIS_POINTS: Final = 10_000
BYTES_PER_KIB: Final = 1024
NUMERATORS_PER_MICROCREDIT: Final = BASIS_POINTS * BYTES_PER_KIB

# Micro-credits a sample or a KiB; 10,000 full reports stay far within 2^53 - 1.
PRICE_MAX: Final = 1_000_000_000
SAMPLES_MAX: Final = 10_000 * 64  # of one batch: BATCH_REPORTS_MAX * RECORDS_MAX
BYTES_MAX: Final = 4 * 1024 * 1024  # of one batch: BATCH_LEN_MAX

ISSUANCE: Final = "issuance"


@dataclass(frozen=True, slots=True)
class Tariff:
    """Prices in micro-credits, and the gateway operator's part of them in basis points."""

    version: int
    valid_from_ms: int
    sample_microcredits: int = 10
    kib_microcredits: int = 50
    gateway_share_bp: int = 2_000

    def __post_init__(self) -> None:
        check_amount("tariff version", self.version, 1, UINT32_MAX)
        check_amount("valid_from_ms", self.valid_from_ms, 0, UINT53_MAX)
        check_amount("sample_microcredits", self.sample_microcredits, 0, PRICE_MAX)
        check_amount("kib_microcredits", self.kib_microcredits, 0, PRICE_MAX)
        check_amount("gateway_share_bp", self.gateway_share_bp, 0, BASIS_POINTS)

    def gross_numerators(self, samples: int, bytes_: int) -> int:
        """The worth of ``samples`` and ``bytes_`` in 1/BYTES_PER_KIB micro-credit, before it is shared."""
        return samples * self.sample_microcredits * BYTES_PER_KIB + bytes_ * self.kib_microcredits

    def owner_numerators(self, samples: int, bytes_: int) -> int:
        """The device owner's part in 1/NUMERATORS_PER_MICROCREDIT micro-credit."""
        return self.gross_numerators(samples, bytes_) * (BASIS_POINTS - self.gateway_share_bp)


@dataclass(frozen=True, slots=True)
class Work:
    """What one account's devices delivered in a batch: samples and bytes of accepted reports."""

    account: str
    samples: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Priced:
    """``credits``: the transfer's legs, sorted by account, summing to zero, none of them 0; empty if
    nothing is due. ``carries``: the dust of every account that took part."""

    credits: tuple[tuple[str, int], ...]
    carries: dict[str, int]


def check_amount(name: str, value: object, minimum: int, maximum: int) -> int:
    """``value`` if it is an integer (no bool, no float, so no NaN) within the bounds.

    Raises LedgerRefused.
    """
    if type(value) is not int:
        raise LedgerRefused(f"{name} is {type(value).__name__} {value!r:.40}, not an integer")
    if not minimum <= value <= maximum:
        raise LedgerRefused(f"{name} is {value}, outside {minimum} to {maximum}")
    return value


def owner_account(owner_id: str) -> str:
    """The account of an owner."""
    return "owner:" + owner_id


def price_batch(tariff: Tariff, work: Iterable[Work], operator: str, carries: Mapping[str, int]) -> Priced:
    """Price one batch: each account's part of its own work, the ``operator`` account's share of all of it.

    ``carries`` is the dust of each account so far, 0 where absent. Raises LedgerRefused before anything is
    decided.
    """
    numerators: dict[str, int] = {}
    gross_total = 0
    for item in work:
        check_amount("samples", item.samples, 0, SAMPLES_MAX)
        check_amount("bytes", item.bytes, 0, BYTES_MAX)
        due = tariff.owner_numerators(item.samples, item.bytes)
        numerators[item.account] = numerators.get(item.account, 0) + due
        gross_total += tariff.gross_numerators(item.samples, item.bytes)
    if gross_total:
        numerators[operator] = numerators.get(operator, 0) + gross_total * tariff.gateway_share_bp
    credits = []
    new_carries = {}
    issued = 0
    for account, due in numerators.items():
        carry = check_amount("carry", carries.get(account, 0), 0, NUMERATORS_PER_MICROCREDIT - 1)
        amount, new_carries[account] = divmod(carry + due, NUMERATORS_PER_MICROCREDIT)
        if amount:
            credits.append((account, amount))
            issued += amount
    if issued:
        credits.append((ISSUANCE, -issued))
    credits.sort()
    return Priced(tuple(credits), new_carries)
