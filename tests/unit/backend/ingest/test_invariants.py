"""The invariants hold after honest and hostile batches alike, and each check notices when its rule is
broken."""

from typing import Any

import pytest
from databases import POSTGRESQL, NewDatabase, sqlite_url, vandalise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surge_backend.invariants import check_all, check_invariants

NAMES = {
    "acknowledged_once",
    "ledger_sums_to_zero",
    "no_negative_balances",
    "transfers_deterministic",
    "log_consistent",
}


def busy(world: Any) -> Any:
    """Three gateways, five devices, replays, a clone, junk; gives a device and its gateway."""
    gateways = [world.gateway() for _ in range(3)]
    boards = [world.device() for _ in range(5)]
    for number in range(6):
        gateway = gateways[number % 3]
        sealed = [board.next(samples=number) for board in boards]
        world.send(gateway, *sealed, sealed[0], b"junk")
        world.send(gateways[(number + 1) % 3], *sealed[:2])
    world.send(gateways[0], boards[4].seal(1, 0, samples=60))
    world.send(gateways[1], *[boards[0].next(samples=1) for _ in range(20)])  # enough for a run
    return boards[0], gateways[0]


def broken(world: Any, **options: Any) -> set[str]:
    with world.database.read() as connection:
        return {name for name, found in check_all(connection, world.log.verify, **options).items() if found}


def test_all_hold_after_honest_and_hostile_batches(world: Any):
    device, _ = busy(world)
    results = check_invariants(world.database, world.log.verify)
    assert results == {name: [] for name in NAMES}
    assert check_invariants(world.database, world.log.verify, quick=True) == results
    assert broken(world, tail=2) == set()
    assert broken(world, acknowledged=[(device.id, 1, seq) for seq in range(26)]) == set()


def test_all_hold_for_an_empty_backend(world: Any):
    assert check_invariants(world.database, world.log.verify) == {name: [] for name in NAMES}


def test_a_rejected_report_counts_as_answered_and_a_lost_one_does_not(world: Any):
    device, gateway = busy(world)
    world.send(gateway, device.seal(1, 5_000_000))
    assert broken(world, acknowledged=[(device.id, 1, 5_000_000)]) == set()
    assert broken(world, acknowledged=[(device.id, 1, 77)]) == {"acknowledged_once"}


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        ("UPDATE device_totals SET recent = zeroblob(0)", "acknowledged_once"),
        ("UPDATE device_totals SET recent = zeroblob(32)", "acknowledged_once"),
        ("UPDATE device_totals SET seq_max = seq_max + 1", "acknowledged_once"),
        ("UPDATE device_totals SET gaps = zeroblob(8)", "acknowledged_once"),
        (
            "UPDATE device_totals SET boot_samples = boot_samples + 1, samples = samples + 1",
            "acknowledged_once",
        ),
        ("UPDATE device_totals SET reports = reports + 1", "acknowledged_once"),
        ("DELETE FROM accepted_runs WHERE seq_min = 0", "acknowledged_once"),
        ("UPDATE accepted_runs SET places = zeroblob(16)", "acknowledged_once"),
        ("DELETE FROM batch_digests WHERE log_index = 2", "acknowledged_once"),
        ("UPDATE batch_digests SET digests = zeroblob(16)", "acknowledged_once"),
        ("DELETE FROM rejections WHERE log_index = 2 AND position = 6", "acknowledged_once"),
        ("UPDATE accounts SET balance = balance + 1 WHERE kind = 'owner'", "ledger_sums_to_zero"),
        ("UPDATE entries SET amount = amount + 1 WHERE position = 1", "ledger_sums_to_zero"),
        ("DELETE FROM transfers", "transfers_deterministic"),
        ("UPDATE transfers SET log_index = log_index + 1", "transfers_deterministic"),
        ("UPDATE transfers SET content_hash = zeroblob(32)", "transfers_deterministic"),
        ("UPDATE batches SET settlement = zeroblob(1) WHERE log_index = 4", "transfers_deterministic"),
        ("UPDATE batches SET settlement = zeroblob(1) WHERE log_index = 4", "log_consistent"),
        ("UPDATE log_heads SET root = zeroblob(32) WHERE tree_size = 3", "log_consistent"),
        ("UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 2", "log_consistent"),
        ("UPDATE accounts SET balance = -1 WHERE kind = 'owner'", "no_negative_balances"),
    ],
)
def test_damage_breaks_the_invariant(world: Any, damage: str, name: str):
    busy(world)
    vandalise(world.database, damage)
    assert name in broken(world)


Steps = list[tuple[int, list[tuple[int, int, int]]]]
steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 3)), max_size=8),
    ),
    max_size=8,
)


@given(steps=steps)
@settings(max_examples=30)
def test_all_hold_after_any_mix_of_gateways_orders_copies_and_clones(steps: Steps, open_at: Any):
    with sqlite_url() as url:
        walk(open_at(url), steps)


@pytest.mark.parametrize("database_kind", [POSTGRESQL], indirect=True)
@given(steps=steps)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_hold_on_postgresql_too(steps: Steps, new_database: NewDatabase, open_at: Any):
    with new_database() as url:
        walk(open_at(url), steps)


def walk(world: Any, steps: Steps) -> None:
    gateways = [world.gateway() for _ in range(3)]
    boards = [world.device() for _ in range(3)]
    counted: dict[tuple[str, int], int] = {}
    acknowledged = []
    for which, found in steps:
        sealed = [boards[b].seal(1, seq, samples=1 + (content == 3)) for b, seq, content in found]
        verdicts = world.verdicts(gateways[which], *sealed)
        for (b, seq, _), verdict in zip(found, verdicts, strict=True):
            acknowledged.append((boards[b].id, 1, seq))
            if verdict == "accepted":
                counted[boards[b].id, seq] = counted.get((boards[b].id, seq), 0) + 1
    assert all(count == 1 for count in counted.values())
    assert broken(world, acknowledged=acknowledged) == set()
    world.database.close()
