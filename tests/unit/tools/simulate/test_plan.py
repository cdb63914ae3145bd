"""One seed is one plan, and its shares are what was asked for."""

from collections import Counter

import pytest

from surge_cli.simulate.clocks import Skew
from surge_cli.simulate.plan import HONEST, HOSTILE, REORDER_MS_MAX, Plan, Role, Wrongs, draw
from surge_host.errors import UserError


def everything(plan: Plan) -> list[object]:
    """What a plan says about some hundred devices and their first messages."""
    found: list[object] = []
    for index in range(100):
        found += [plan.role(index), plan.skew(index), plan.phase(index), plan.deed_after_acks(index)]
        for number in range(20):
            about = (index, 1, number, 1)
            found += [plan.loses(*about), plan.duplicates(*about), plan.delay_ms(*about)]
            found += [plan.loses_ack(index, number), plan.cuts_power(index, number)]
            found += [plan.acks_survive(index, number), plan.damages(index, 1, number)]
    return found


def test_the_same_seed_is_the_same_plan_in_whatever_order_it_is_asked() -> None:
    plan = Plan(7, 100, HOSTILE)
    first = everything(plan)
    plan.loses(3, 1, 4, 1)
    assert everything(plan) == first == everything(Plan(7, 100, HOSTILE))
    assert everything(Plan(8, 100, HOSTILE)) != first


def test_a_plan_is_the_same_on_every_machine() -> None:
    # Written down once: another result would make recorded seeds worthless.
    assert [round(draw(7, index, 1, 2, 3), 12) for index in range(3)] == [
        0.124047733331,
        0.341249097319,
        0.085586741305,
    ]


def test_nothing_goes_wrong_in_an_honest_plan() -> None:
    plan = Plan(7, 100, HONEST)
    assert {plan.role(index) for index in range(100)} == {Role.HONEST}
    assert {plan.skew(index) for index in range(100)} == {Skew.NONE}
    assert not any(plan.loses(index, 1, 1, 1) or plan.cuts_power(index, 1) for index in range(100))


def test_shares_are_kept_and_are_at_least_one_device() -> None:
    plan = Plan(1, 1000, HOSTILE)
    roles = Counter(plan.role(index) for index in range(1000))
    assert roles[Role.EQUIVOCATED] + roles[Role.FORKED] == 40
    assert (roles[Role.REPLAYER], roles[Role.FLOODER]) == (60, 20)
    assert sum(plan.skew(index) is not Skew.NONE for index in range(1000)) == 200
    few = Plan(1, 10, Wrongs(clones=0.001, floods=0.001))
    assert sorted(few.role(index) for index in range(10))[-2:] == [Role.EQUIVOCATED, Role.FLOODER]


def test_chances_are_about_what_was_asked_for() -> None:
    plan = Plan(2, 10, Wrongs(loss=0.1, reorder=0.1))
    lost = sum(plan.loses(index, 1, seq, 1) for index in range(10) for seq in range(1000))
    assert 850 < lost < 1150
    delays = [plan.delay_ms(index, 1, seq, 1) for index in range(10) for seq in range(1000)]
    assert 850 < sum(delay > 0 for delay in delays) < 1150
    assert max(delays) < REORDER_MS_MAX + 1
    # another attempt is another throw: what is lost once isn't lost for ever
    assert not all(plan.loses(0, 1, 1, attempt) for attempt in range(100))


@pytest.mark.parametrize("wrong", [{"loss": 1.1}, {"skew": -0.1}, {"clones": 0.6, "floods": 0.6}])
def test_what_is_no_share_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError):
        Wrongs(**wrong)


@pytest.mark.parametrize(("seed", "devices"), [(-1, 1), (1 << 63, 1), (1, 0), (1, 100_001)])
def test_what_is_no_plan_is_refused(seed: int, devices: int) -> None:
    with pytest.raises(UserError):
        Plan(seed, devices)
