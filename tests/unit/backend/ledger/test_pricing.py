"""Prices are exact integers: nothing is lost, invented or rounded, nothing else is taken for an amount."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surge_backend.errors import LedgerRefused
from surge_backend.ledger.pricing import (
    ISSUANCE,
    NUMERATORS_PER_MICROCREDIT,
    Tariff,
    Work,
    price_batch,
)

TARIFF = Tariff(version=1, valid_from_ms=0)


def test_a_report_by_hand():
    """7 samples and 200 bytes: 70 + 9.765625 micro-credits; the owner gets 80 %, the gateway's operator 20
    %.
    """
    priced = price_batch(TARIFF, [Work("owner:a", 7, 200)], "owner:g", {})
    assert priced.credits == ((ISSUANCE, -78), ("owner:a", 63), ("owner:g", 15))
    assert priced.carries == {
        "owner:a": (7 * 10 * 1024 + 200 * 50) * 8_000 - 63 * NUMERATORS_PER_MICROCREDIT,
        "owner:g": (7 * 10 * 1024 + 200 * 50) * 2_000 - 15 * NUMERATORS_PER_MICROCREDIT,
    }


def test_nothing_delivered_earns_nothing():
    assert price_batch(TARIFF, [], "owner:g", {"owner:g": 5}).credits == ()
    assert price_batch(TARIFF, [Work("owner:a", 0, 0)], "owner:g", {}).credits == ()


def test_an_operators_own_devices_make_one_leg():
    priced = price_batch(TARIFF, [Work("owner:a", 100, 1024)], "owner:a", {})
    assert priced.credits == ((ISSUANCE, -1050), ("owner:a", 1050))
    assert priced.carries == {"owner:a": 0}


works = st.lists(
    st.builds(
        Work,
        st.sampled_from(["owner:a", "owner:b", "owner:c", "owner:g"]),
        st.integers(0, 640_000),
        st.integers(0, 4 * 1024 * 1024),
    ),
    max_size=6,
)
tariffs = st.builds(
    Tariff,
    version=st.just(1),
    valid_from_ms=st.just(0),
    sample_microcredits=st.integers(0, 1_000_000_000),
    kib_microcredits=st.integers(0, 1_000_000_000),
    gateway_share_bp=st.integers(0, 10_000),
)


@given(st.lists(st.tuples(tariffs, works), max_size=8))
@pytest.mark.threat(12)
def test_paid_plus_carried_is_what_was_earned_to_the_last_numerator(batches: list[tuple[Tariff, list[Work]]]):
    carries: dict[str, int] = {}
    paid = earned = 0
    for tariff, work in batches:
        priced = price_batch(tariff, work, "owner:g", carries)
        carries |= priced.carries
        assert sum(amount for _, amount in priced.credits) == 0
        assert [account for account, _ in priced.credits] == sorted(
            {account for account, _ in priced.credits}
        )
        assert all(amount > 0 for account, amount in priced.credits if account != ISSUANCE)
        paid += sum(amount for account, amount in priced.credits if account != ISSUANCE)
        earned += 10_000 * sum(tariff.gross_numerators(item.samples, item.bytes) for item in work)
    assert all(0 <= carry < NUMERATORS_PER_MICROCREDIT for carry in carries.values())
    assert paid * NUMERATORS_PER_MICROCREDIT + sum(carries.values()) == earned


@pytest.mark.threat(12)
@pytest.mark.parametrize("bad", [-1, 1.0, float("nan"), float("inf"), True, None, "1", 640_001, 1 << 64])
def test_what_is_no_amount_is_refused(bad: object):
    with pytest.raises(LedgerRefused, match="samples"):
        price_batch(TARIFF, [Work("owner:a", bad, 0)], "owner:g", {})  # type: ignore[arg-type]
    with pytest.raises(LedgerRefused, match="carry"):
        price_batch(
            TARIFF,
            [Work("owner:a", 1, 0)],
            "owner:g",
            {"owner:a": bad} if bad != 640_001 else {"owner:a": -5},
        )  # type: ignore[dict-item]


@pytest.mark.threat(12)
@pytest.mark.parametrize(
    "field", ["version", "valid_from_ms", "sample_microcredits", "kib_microcredits", "gateway_share_bp"]
)
@pytest.mark.parametrize("bad", [-1, 0.5, True, 1 << 60])
def test_a_tariff_is_of_bounded_integers(field: str, bad: object):
    with pytest.raises(LedgerRefused):
        Tariff(**({"version": 1, "valid_from_ms": 0} | {field: bad}))  # type: ignore[arg-type]
