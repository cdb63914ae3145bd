"""What a ledger is, in dictionaries: nothing of Surge's is used here, so that both can't be wrong alike."""

from fractions import Fraction
from typing import Any, Final

AMOUNT_MAX: Final = 2**53 - 1
NUMERATORS: Final = 10_000 * 1_024  # of a micro-credit
LEGS_MAX: Final = 20_002

Legs = tuple[tuple[str, int], ...]


class Model:
    """Balances, dust, holds, tariffs, and what was posted under which name."""

    def __init__(self) -> None:
        self.balances: dict[str, int] = {"issuance": 0}
        self.carries: dict[str, int] = {"issuance": 0}
        self.earned: dict[str, int] = {}  # micro-credits of each device
        self.holds: list[tuple[str, str, int]] = []
        self.tariffs: list[tuple[int, int, int, int, int]] = []
        self.posted: dict[tuple[str, bytes], int] = {}
        self._posted_since: list[tuple[str, bytes]] = []
        self._before: tuple[Any, ...] | None = None

    # --- transactions -----------------------------------------------------------------------------------

    def begin(self) -> None:
        self._before = (
            dict(self.balances),
            dict(self.carries),
            dict(self.earned),
            list(self.holds),
            list(self.tariffs),
        )
        self._posted_since = []

    def commit(self) -> None:
        self._before = None

    def rollback(self) -> None:
        assert self._before is not None
        self.balances, self.carries, self.earned, self.holds, self.tariffs = self._before
        self._before = None
        for key in self._posted_since:
            del self.posted[key]

    @property
    def committed_balances(self) -> dict[str, int]:
        return self.balances if self._before is None else self._before[0]

    # --- transfers --------------------------------------------------------------------------------------

    def open(self, account: str) -> None:
        self.balances.setdefault(account, 0)
        self.carries.setdefault(account, 0)

    def verdict(self, kind: str, reference: bytes, legs: Any, created_ms: int) -> str:
        """What posting this has to do: "refused", "conflict", "repeat" or "new"."""
        if not (self._sound(legs) and 0 <= created_ms <= AMOUNT_MAX):
            return "refused"
        if (kind, reference) in self.posted:
            return "repeat" if self.posted[kind, reference] == hash(legs) else "conflict"
        for account, amount in legs:
            if account not in self.balances:
                return "refused"
            after = self.balances[account] + amount
            if not (-AMOUNT_MAX if account == "issuance" else 0) <= after <= AMOUNT_MAX:
                return "refused"
        return "new"

    @staticmethod
    def _sound(legs: Any) -> bool:
        if not 2 <= len(legs) <= LEGS_MAX:
            return False
        if not all(type(name) is str and 1 <= len(name) <= 64 for name, _ in legs):
            return False
        if not all(type(amount) is int and 0 < abs(amount) <= AMOUNT_MAX for _, amount in legs):
            return False
        names = [name for name, _ in legs]
        return names == sorted(set(names)) and sum(amount for _, amount in legs) == 0

    def post(self, kind: str, reference: bytes, legs: Legs) -> None:
        for account, amount in legs:
            self.balances[account] += amount
        self.posted[kind, reference] = hash(legs)
        self._posted_since.append((kind, reference))

    # --- prices -----------------------------------------------------------------------------------------

    def tariff_at(self, now_ms: int) -> tuple[int, int, int, int, int] | None:
        valid = [tariff for tariff in self.tariffs if tariff[1] <= now_ms]
        return max(valid) if valid else None

    def earn(
        self, tariff: tuple[int, int, int, int, int], work: list[tuple[str, int, int]], operator: str
    ) -> dict[str, int]:
        """Whole micro-credits for each account, issuance's the other way; the rest is carried, exactly."""
        _, _, sample_price, kib_price, share_bp = tariff
        due: dict[str, Fraction] = {}
        for account, samples, length in work:
            worth = Fraction(samples * sample_price) + Fraction(length * kib_price, 1_024)
            operators = worth * Fraction(share_bp, 10_000)
            due[account] = due.get(account, Fraction(0)) + worth - operators
            due[operator] = due.get(operator, Fraction(0)) + operators
        credits: dict[str, int] = {}
        for account, amount in due.items():
            exact = amount + Fraction(self.carries[account], NUMERATORS)
            whole = exact.numerator // exact.denominator
            rest = (exact - whole) * NUMERATORS
            assert rest.denominator == 1
            self.carries[account] = int(rest)
            if whole:
                credits[account] = whole
        if credits:
            credits["issuance"] = -sum(credits.values())
        return credits

    # --- holds ------------------------------------------------------------------------------------------

    def held(self, account: str) -> int:
        return sum(amount for _, of, amount in self.holds if of == account)

    def hold(self, device: str, account: str) -> int:
        free = max(0, self.balances[account] - self.held(account))
        amount = min(self.earned.get(device, 0), free)
        self.holds.append((device, account, amount))
        return amount

    def release(self, device: str) -> int:
        freed = sum(amount for of, _, amount in self.holds if of == device)
        self.holds = [hold for hold in self.holds if hold[0] != device]
        return freed
