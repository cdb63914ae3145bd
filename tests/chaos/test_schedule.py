"""The schedule of `make chaos`, and what a power cut takes from a board: without a network."""

import random
from itertools import islice
from pathlib import Path

from chaos.flash import Flash, cut_power
from chaos.schedule import CABLE_DEEDS, Deed, Disturbance, Pace, disturbances

from surge_device.outbox import open_outbox

ROLES = (
    ("backend",),
    ("gateway-1", "gateway-2"),
    ("broker-1", "broker-2"),
    ("board-1", "board-2", "board-3"),
    ("cable-1", "cable-2"),
)
ROUND = 8


def first(seed: int, count: int) -> list[Disturbance]:
    return list(islice(disturbances(seed, ROLES, Pace()), count))


def test_a_seed_gives_the_same_schedule() -> None:
    assert first(7, 100) == first(7, 100)
    assert first(7, 100) != first(8, 100)


def test_each_round_has_every_role_and_kind() -> None:
    schedule = first(3, 10 * ROUND)
    assert [each.number for each in schedule] == list(range(1, len(schedule) + 1))
    for start in range(0, len(schedule), ROUND):
        one = schedule[start : start + ROUND]
        alone = {
            each.victims[0].split("-")[0] for each in one if each.deed is Deed.KILL and len(each.victims) == 1
        }
        assert alone >= {"backend", "gateway", "broker", "board"}
        assert [len(each.victims) for each in one].count(2) == 1
        assert len([each for each in one if each.again_s is not None]) == 1
        assert len([each for each in one if each.deed in CABLE_DEEDS]) == 1
        assert len([each for each in one if each.deed is Deed.FREEZE]) == 1
        assert sum(each.kills for each in one) == 8
        assert one[0].calm_before == (start > 0)


def test_a_cable_is_never_killed_and_only_boards_lose_power() -> None:
    for each in first(5, 500):
        assert each.deed in CABLE_DEEDS or not any(victim.startswith("cable") for victim in each.victims)
        if each.power_cut or each.move:
            assert any(victim.startswith("board") for victim in each.victims)
        assert len(set(each.victims)) == len(each.victims)


def test_a_power_cut_takes_acks_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "outbox").mkdir()
    outbox = open_outbox(str(tmp_path / "outbox"))
    for seq in range(6):
        outbox.add_sealed(1, seq, b"envelope %d" % seq)
    outbox.ack(1, [[0, 1]])
    outbox.add_sealed(1, 6, b"envelope 6")  # synced, and the ack before it too
    outbox.ack(1, [[2, 4]])
    outbox.close()
    flash = Flash()
    seen = set()
    for number in range(200):
        copy = tmp_path / str(number)
        (copy / "outbox").mkdir(parents=True)
        for segment in (tmp_path / "outbox").iterdir():
            (copy / "outbox" / segment.name).write_bytes(segment.read_bytes())
        taken = cut_power(copy, random.Random(number))
        flash.look(copy)
        left = {seq for _, seq in flash.unacked}
        assert left == ({2, 3, 4, 5, 6} if taken else {5, 6})
        assert flash.sealed == {1: 7}
        assert flash.damaged == 0
        seen.add(taken > 0)
    assert seen == {True, False}
