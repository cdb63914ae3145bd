"""Verdicts by history: what is accepted once, what is late, what jumps, and what only two holders of a key
would say."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from surge_backend.db.boots import BOOTS
from surge_backend.db.schema import alarms, device_totals, devices, holds, rejections
from surge_backend.ledger.holds import payable
from surge_backend.ledger.pricing import owner_account
from surge_backend.registry.device_rows import get_device, retire_device, unfreeze_device
from surge_backend.registry.errors import WrongState
from surge_backend.verify.device import DeviceKey
from surge_backend.verify.history import DeviceHistory
from surge_backend.verify.judging import StoredReport, judge_reports, names_to_look_up
from surge_backend.verify.limits import DAY_MS, VerifyLimits
from surge_backend.verify.mac import MacKey
from surge_backend.verify.reading import ReadReport
from surge_wire.verdicts import NAMES

DEVICE = "daaaaaaaaaaaaaaaa"
SMALL = VerifyLimits(boot_gap_max=10, seq_gap_max=100, boot_window=3, late_ms_max=1_000, reorder_window=20)


def device(status: str) -> DeviceKey:
    return DeviceKey(DEVICE, MacKey(bytes(32)), "oaaaaaaaaaaaaaaaa", None, status)


def read(position: int, boot: int, seq: int, content: int = 0, previous_end: int | None = None) -> ReadReport:
    return ReadReport(position, 0, "", DEVICE, boot, seq, 1, 100, bytes([content]) * 16, previous_end)


class Stream:
    """Feeds reports one batch at a time, as ingest does, and remembers what was accepted."""

    def __init__(self, limits: VerifyLimits = SMALL) -> None:
        self.limits = limits
        self.histories: dict[str, DeviceHistory] = {}
        self.stored: dict[Any, StoredReport] = {}
        self.status = "active"
        self.now_ms = 0
        self.evidence: list[Any] = []

    def batch(self, *found: ReadReport) -> list[str]:
        names = names_to_look_up(found, self.histories)
        stored = {name: self.stored[name] for name in names if name in self.stored}
        made = judge_reports(
            found, {DEVICE: device(self.status)}, self.histories, stored, self.limits, self.now_ms
        )
        for accepted in made.accepted:
            name = (DEVICE, accepted.boot, accepted.seq)
            assert name not in self.stored
            self.stored[name] = StoredReport(accepted.digest, 0, accepted.position)
        self.histories |= made.histories
        self.evidence += made.evidence
        if made.evidence:
            self.status = "frozen"
        return [NAMES[code] for code, _ in made.verdicts]

    def one(self, boot: int, seq: int, **fields: Any) -> str:
        return self.batch(read(0, boot, seq, **fields))[0]


@pytest.mark.threat(4)
def test_any_order_within_the_window_is_accepted_once():
    stream = Stream()
    assert [stream.one(1, seq) for seq in (3, 0, 2, 1, 4, 2)] == ["accepted"] * 5 + ["duplicate"]


@pytest.mark.threat(4)
def test_past_the_limit_of_gaps_the_oldest_is_given_up_with_the_reason(world: Any, reopen: Any):
    world = reopen(world, VerifyLimits(gaps_max=2))
    gateway, device = world.gateway(), world.device()
    sealed = [device.next() for _ in range(8)]
    world.send(gateway, *(sealed[i] for i in (1, 3, 5)))
    assert world.verdicts(gateway, sealed[0], sealed[1], sealed[2]) == ["too_late", "duplicate", "accepted"]
    assert world.verdicts(gateway, *(sealed[i] for i in (7, 4, 6))) == ["accepted"] * 3
    rows = world.rows(select(rejections.c.detail).where(rejections.c.code == 9))
    assert rows == [("seq 0 is before 1, and 2 gaps are open after it",)]
    assert world.rows(select(BOOTS.c.gaps_from, BOOTS.c.gaps)) == [(1, None)]


@pytest.mark.threat(4)
def test_outside_the_window_it_is_too_late_with_the_reason():
    stream = Stream()
    assert stream.one(1, 30) == "accepted"
    assert stream.one(1, 10) == "accepted"
    made = judge_reports([read(0, 1, 9)], {DEVICE: device("active")}, stream.histories, {}, SMALL, 0)
    assert made.verdicts == [(9, "seq 9 is more than 20 before the newest, 30")]
    assert made.histories == {}


@pytest.mark.threat(4)
def test_an_older_boot_may_deliver_until_its_successor_is_known_for_too_long():
    stream = Stream()
    stream.one(1, 0)
    stream.now_ms = 500
    stream.one(2, 0)
    stream.now_ms = 1_500
    assert stream.one(1, 1) == "accepted"
    stream.now_ms = 1_501
    assert stream.one(1, 2) == "too_late"
    assert stream.one(1, 1) == "duplicate"
    assert stream.one(2, 1) == "accepted"


@pytest.mark.threat(4)
def test_the_boot_right_after_counts_not_the_newest():
    stream = Stream()
    stream.one(1, 0)
    stream.one(2, 0)
    stream.now_ms = 900
    stream.one(3, 0)
    stream.now_ms = 1_100
    assert stream.one(1, 1) == "too_late"
    assert stream.one(2, 1) == "accepted"


@pytest.mark.threat(5)
def test_a_boot_far_behind_is_a_rollback_unless_it_is_a_copy():
    stream = Stream()
    stream.one(1, 0)
    stream.one(5, 0)
    assert stream.one(1, 1) == "boot_rollback"
    assert stream.one(1, 0) == "duplicate"
    assert stream.one(2, 0) == "accepted"


@pytest.mark.threat(5)
def test_a_name_is_never_used_twice_after_a_counter_was_set_back():
    stream = Stream()
    stream.batch(*[read(i, 1, i) for i in range(5)])
    assert stream.one(1, 2, content=9) == "equivocation"
    assert stream.one(1, 5) == "device_frozen"


@pytest.mark.threat(6)
def test_a_huge_jump_is_refused_and_locks_nobody_out():
    stream = Stream()
    assert stream.one(11, 0) == "gap_too_large"
    assert stream.one(10, 0) == "accepted"
    assert stream.one(21, 0) == "gap_too_large"
    assert stream.one(10, 101) == "gap_too_large"
    assert stream.one(11, 100) == "gap_too_large"
    assert stream.one(0xFFFFFFFF, 0xFFFFFFFF) == "gap_too_large"
    assert stream.one(10, 1) == "accepted"
    assert stream.one(11, 0) == "accepted"
    assert stream.one(20, 99) == "accepted"


@pytest.mark.threat(1)
def test_other_bytes_under_one_name_freeze_the_device():
    stream = Stream()
    stream.one(1, 0)
    assert stream.batch(read(0, 1, 0, content=1), read(1, 1, 1), read(2, 1, 0), read(3, 1, 0, content=2)) == [
        "equivocation",
        "device_frozen",
        "duplicate",
        "equivocation",
    ]
    assert len(stream.evidence) == 1
    assert stream.one(1, 0, content=3) == "equivocation"
    assert len(stream.evidence) == 1


@pytest.mark.threat(1)
def test_other_bytes_in_the_same_batch_freeze_it_too():
    stream = Stream()
    assert stream.batch(read(0, 1, 0), read(1, 1, 0, content=1)) == ["accepted", "equivocation"]
    assert stream.evidence[0].other_log_index is None
    assert stream.evidence[0].other_position == 0


@pytest.mark.threat(1)
def test_a_report_past_the_end_that_the_device_declared_is_a_fork():
    stream = Stream()
    stream.one(1, 4)
    assert stream.one(2, 0, previous_end=10) == "accepted"
    assert stream.one(1, 9) == "accepted"
    assert stream.one(1, 10) == "forked_history"
    assert (stream.evidence[0].ended_boot, stream.evidence[0].declared_end, stream.evidence[0].seq_seen) == (
        1,
        10,
        10,
    )
    assert stream.one(2, 1) == "device_frozen"


@pytest.mark.threat(1)
def test_an_end_before_what_was_accepted_is_a_fork():
    stream = Stream()
    stream.one(1, 9)
    assert stream.one(2, 0, previous_end=9) == "forked_history"
    assert (stream.evidence[0].ended_boot, stream.evidence[0].declared_end, stream.evidence[0].seq_seen) == (
        1,
        9,
        9,
    )


@pytest.mark.threat(1)
def test_an_honest_end_is_no_fork_whatever_the_order():
    stream = Stream()
    assert stream.one(2, 0, previous_end=3) == "accepted"
    assert [stream.one(1, seq) for seq in (2, 0, 1)] == ["accepted"] * 3
    stream = Stream()
    assert [stream.one(1, seq) for seq in (0, 2)] == ["accepted"] * 2
    assert stream.one(2, 0, previous_end=3) == "accepted"
    assert stream.one(1, 1) == "accepted"
    assert stream.evidence == []


def test_status_comes_before_history():
    stream = Stream()
    stream.one(1, 0)
    stream.status = "retired"
    assert stream.one(1, 0) == "device_retired"
    stream.status = "frozen"
    assert stream.one(1, 1) == "device_frozen"
    assert stream.one(1, 0) == "duplicate"


names = st.tuples(st.integers(0, 9), st.integers(0, 40), st.integers(0, 1))


@given(st.lists(st.lists(names, max_size=8), max_size=8))
def test_nothing_is_accepted_twice_and_only_acceptance_changes_a_history(
    batches: list[list[tuple[int, int, int]]],
):
    """The stream's own check is that no accepted name is stored twice; this one holds totals to what was
    accepted."""
    stream = Stream()
    for batch in batches:
        verdicts = stream.batch(
            *[read(i, boot, seq, content) for i, (boot, seq, content) in enumerate(batch)]
        )
        assert len(verdicts) == len(batch)
    if stream.stored:
        history = stream.histories[DEVICE]
        assert (
            history.reports
            == history.samples
            == len(stream.stored)
            == sum(b.reports for b in history.boots().values())
        )
        assert history.boot_max == max(boot for _, boot, _ in stream.stored)
        for number, boot in history.boots().items():
            assert boot.seq_max == max(seq for _, b, seq in stream.stored if b == number)


def test_limits_are_positive_integers():
    for bad in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match="boot_window"):
            VerifyLimits(boot_window=bad)  # type: ignore[arg-type]


# --- the same through ingest: what is stored about it -------------------------------------------------------


@pytest.mark.threat(1)
def test_a_cloned_key_freezes_the_device_holds_its_payout_and_tells_its_owner(world: Any):
    gateway, other, device, bystander = world.gateway(), world.gateway(), world.device(), world.device()
    world.send(gateway, *[device.next() for _ in range(5)], bystander.next())
    clone = device.seal(1, 3, samples=9)
    assert world.verdicts(other, clone, device.next(), bystander.next()) == [
        "equivocation",
        "device_frozen",
        "accepted",
    ]
    row = world.rows(select(devices).where(devices.c.id == device.id))[0]
    assert row.status == "frozen"
    assert "two different reports are numbered 3 of boot 1" in row.status_reason
    assert "enrol the board anew" in row.status_reason
    evidence = json.loads(row.status_evidence)
    assert (evidence["kind"], evidence["log_index"], evidence["position"]) == ("equivocation", 1, 0)
    assert (evidence["other_log_index"], evidence["other_position"]) == (0, 3)
    assert evidence["digest"] != evidence["other_digest"]
    hold = world.rows(select(holds))[0]
    earned = world.rows(select(device_totals.c.microcredits).where(device_totals.c.device_id == device.id))[
        0
    ][0]
    assert earned > 0
    assert (hold.device_id, hold.account_id, hold.amount) == (
        device.id,
        owner_account(device.owner_id),
        earned,
    )
    with world.database.read() as connection:
        assert payable(connection, owner_account(device.owner_id)) == world.balance(device.owner_id) - earned
        assert payable(connection, owner_account(bystander.owner_id)) > 0
    assert world.rows(select(alarms.c.kind, alarms.c.subject)) == [("device_frozen", device.id)]
    paid = world.balance(device.owner_id)
    world.send(gateway, device.next())
    assert world.balance(device.owner_id) == paid


@pytest.mark.threat(1)
def test_a_fork_is_stored_with_both_sides(world: Any):
    gateway, device = world.gateway(), world.device()
    world.send(gateway, *[device.next() for _ in range(5)])
    device.restart()
    assert world.verdicts(gateway, device.next(previous_end=3)) == ["forked_history"]
    row = world.rows(select(devices).where(devices.c.id == device.id))[0]
    assert (
        "boot 1 was declared to end before report 3, and yet there is a report 4 of it" in row.status_reason
    )
    assert json.loads(row.status_evidence)["seq_seen"] == 4


@pytest.mark.threat(1)
def test_a_device_that_is_unfrozen_goes_on(world: Any):
    gateway, device = world.gateway(), world.device()
    world.send(gateway, device.next(), device.seal(1, 0, samples=1))
    assert world.verdicts(gateway, device.next()) == ["device_frozen"]
    unfreeze(world, device)
    assert world.verdicts(gateway, device.next()) == ["accepted"]


def unfreeze(world: Any, device: Any) -> None:
    with world.database.write() as connection:
        unfreeze_device(connection, device.id, "looked at", world.now_ms)


def test_what_is_held_of_a_device_that_was_retired_meanwhile_can_be_released(world: Any):
    gateway, device = world.gateway(), world.device()
    world.send(gateway, device.next())
    world.send(gateway, device.seal(1, 0, samples=1))
    with world.database.write() as connection:
        retire_device(connection, device.id, None, "copied", world.now_ms)
        assert unfreeze_device(connection, device.id, "looked at", world.now_ms) > 0
        assert get_device(connection, device.id)["status"] == "retired"
        with pytest.raises(WrongState, match="nothing is held"):
            unfreeze_device(connection, device.id, "again", world.now_ms)
    assert world.verdicts(gateway, device.next()) == ["device_retired"]


@pytest.mark.threat(1)
@pytest.mark.threat(3)
def test_evidence_that_was_looked_at_freezes_nothing_when_it_is_sent_again(world: Any):
    gateway, device = world.gateway(), world.device()
    other = device.seal(1, 0, samples=1)
    world.send(gateway, device.next(), other)
    unfreeze(world, device)
    assert world.verdicts(gateway, other, device.next()) == ["equivocation", "accepted"]
    assert world.verdicts(gateway, device.next()) == ["accepted"]
    # New evidence is another matter.
    assert world.verdicts(gateway, other, device.seal(1, 1, samples=1), device.next()) == [
        "equivocation",
        "equivocation",
        "device_frozen",
    ]


@pytest.mark.threat(1)
def test_a_fork_that_was_looked_at_freezes_nothing_when_it_is_sent_again(world: Any):
    gateway, device = world.gateway(), world.device()
    world.send(gateway, *[device.next() for _ in range(3)])
    late = device.next()
    device.restart()
    world.send(gateway, device.next(previous_end=3), late)
    unfreeze(world, device)
    assert world.verdicts(gateway, late, device.next()) == ["forked_history", "accepted"]


@pytest.mark.threat(4)
def test_late_delivery_through_ingest_and_a_restart(world: Any, reopen: Any):
    gateway, device = world.gateway(), world.device()
    late = [device.next() for _ in range(3)]
    world.send(gateway, device.next())
    device.restart()
    world.send(gateway, device.next())
    fresh = reopen(world)
    fresh.now_ms += 30 * DAY_MS
    assert fresh.verdicts(gateway, late[1], late[0], late[1]) == ["accepted", "accepted", "duplicate"]
    fresh.now_ms += 1
    assert fresh.verdicts(gateway, late[2], late[0]) == ["too_late", "duplicate"]
    stored = world.rows(select(rejections.c.detail).where(rejections.c.code == 9))
    assert stored == [("the next boot is known for more than 2592000000 ms",)]
    assert [(boot, place.seq) for _, boot, place in world.accepted()] == [(1, 0), (1, 1), (1, 3), (2, 0)]


@pytest.mark.threat(5)
def test_reboots_and_lost_reports_leave_gaps_and_no_collision(world: Any):
    gateway, device = world.gateway(), world.device()
    for _ in range(70):
        device.restart()
        device.seq = 2
        world.send(gateway, device.next())
    rows = world.rows(select(BOOTS.c.boot, BOOTS.c.seq_max, BOOTS.c.reports).order_by(BOOTS.c.boot))
    assert rows == [(boot, 2, 1) for boot in range(2, 72)]
    assert world.verdicts(gateway, device.seal(2, 9), device.seal(2, 2)) == ["boot_rollback", "duplicate"]


@pytest.mark.threat(7)
def test_a_wrong_device_clock_changes_no_verdict(world: Any):
    gateway, device = world.gateway(), world.device()
    times = [0, 1, (1 << 31) * 1_000, (1 << 53) - 1, None]
    assert world.verdicts(gateway, *[device.next(time_ms=time_ms) for time_ms in times]) == ["accepted"] * 5


def test_a_boot_before_the_window_gets_one_verdict_whatever_is_remembered(tmp_path, open_at):
    """An auditor who starts from nothing, and a backend that has just started, must agree with one that
    remembers."""
    verdicts = []
    for remembers in (True, False):
        path = str(tmp_path / f"{remembers}.db")
        limits = VerifyLimits(seq_gap_max=10, boot_window=2)
        world = open_at(path, limits)
        gateway, device = world.gateway(), world.device()
        assert world.verdicts(gateway, device.seal(1, 9), device.seal(10, 0)) == ["accepted"] * 2
        if not remembers:
            world.database.close()
            world = open_at(path, limits)
        verdicts.append(world.verdicts(gateway, device.seal(1, 15), device.seal(1, 5)))
        world.database.close()
    assert verdicts == [["gap_too_large", "boot_rollback"]] * 2
