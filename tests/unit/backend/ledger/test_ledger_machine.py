"""The ledger under any order of operations: a Hypothesis state machine, and a long seeded walk.

Both drive `ledger_world` and check everything against its model. `SURGE_LEDGER_OPERATIONS=1000000` makes the
walk long, `SURGE_LEDGER_SEED` another one.
"""

import os
import random
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from .ledger_world import LedgerWorld

OPERATIONS = int(os.environ.get("SURGE_LEDGER_OPERATIONS", "4000"))
SEED = int(os.environ.get("SURGE_LEDGER_SEED", "1"))
CHECKS_OF_ALL = 25  # of the walk: each reads every entry there is

rngs = st.randoms(use_true_random=False)


class LedgerMachine(RuleBasedStateMachine):
    """Every operation of the world is a rule; the whole ledger is checked after each."""

    def __init__(self) -> None:
        super().__init__()
        self.world = LedgerWorld()

    def teardown(self) -> None:
        self.world.close()

    @rule(rng=rngs)
    def open_account(self, rng: random.Random) -> None:
        self.world.open_account(rng)

    @rule(rng=rngs)
    def transfer(self, rng: random.Random) -> None:
        self.world.transfer(rng)

    @rule(rng=rngs)
    def overdraw(self, rng: random.Random) -> None:
        self.world.overdraw(rng)

    @rule(rng=rngs)
    def again(self, rng: random.Random) -> None:
        self.world.again(rng)

    @rule(rng=rngs)
    def contradict(self, rng: random.Random) -> None:
        self.world.contradict(rng)

    @rule(rng=rngs)
    def about_nothing(self, rng: random.Random) -> None:
        self.world.about_nothing(rng)

    @rule(rng=rngs)
    def pay_for_work(self, rng: random.Random) -> None:
        self.world.pay_for_work(rng)

    @rule(rng=rngs)
    def spoil_carries(self, rng: random.Random) -> None:
        self.world.spoil_carries(rng)

    @rule(rng=rngs)
    def new_tariff(self, rng: random.Random) -> None:
        self.world.new_tariff(rng)

    @rule(rng=rngs)
    def hold(self, rng: random.Random) -> None:
        self.world.hold(rng)

    @rule(rng=rngs)
    def release(self, rng: random.Random) -> None:
        self.world.release(rng)

    @rule(commit=st.booleans())
    def end_of_transaction(self, commit: bool) -> None:
        self.world.end(commit=commit)

    @rule()
    def look_from_elsewhere(self) -> None:
        self.world.look_from_elsewhere()

    @rule()
    def reopen(self) -> None:
        self.world.reopen()

    @invariant()
    def sound(self) -> None:
        self.world.check_all()


# A step costs about 3 ms, most of it for the check of everything.
LedgerMachine.TestCase.settings = settings(
    max_examples=max(25, settings().max_examples // 4), stateful_step_count=40
)
TestLedgerMachine = pytest.mark.threat(12)(LedgerMachine.TestCase)

# How often the walk does what, out of their sum.
WEIGHTS = {
    "transfer": 300,
    "pay_for_work": 150,
    "again": 100,
    "contradict": 80,
    "overdraw": 60,
    "about_nothing": 60,
    "spoil_carries": 30,
    "hold": 30,
    "release": 20,
    "new_tariff": 10,
    "open_account": 10,
}


@pytest.mark.threat(11)
@pytest.mark.threat(12)
def test_a_long_walk_keeps_the_ledger_and_its_model_the_same() -> None:
    rng = random.Random(SEED)
    world = LedgerWorld()
    names, weights = list(WEIGHTS), list(WEIGHTS.values())
    began_s = time.monotonic()
    try:
        for count in range(1, OPERATIONS + 1):
            getattr(world, rng.choices(names, weights)[0])(rng)
            world.check_balances()
            if rng.random() < 0.1:
                world.end(commit=rng.random() < 0.8)
            if rng.random() < 0.001:
                world.look_from_elsewhere()
            if rng.random() < 0.001:
                world.reopen()
            if count % max(1, OPERATIONS // CHECKS_OF_ALL) == 0:
                world.check_all()
                print(f"{count} operations, {count / (time.monotonic() - began_s):.0f}/s", world.counts)
        assert min(world.counts[outcome] for outcome in ("new", "repeat", "conflict", "refused")) > 0
    finally:
        world.close()
