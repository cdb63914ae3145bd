"""What a device's owner sees: rejections with reasons in pages, gaps and what explains them, alarms."""

from typing import Any

import pytest

from surge_backend.db.alarms import raise_alarm
from surge_backend.queries import gaps as gaps_module
from surge_backend.queries import verdicts as verdicts_module
from surge_backend.queries.alarms import list_alarms
from surge_backend.queries.gaps import Claim, Range, device_gaps
from surge_backend.queries.verdicts import device_verdicts
from surge_wire.batch import Summarised
from surge_wire.report import Usage


def gaps(world: Any, device: Any, **page: Any) -> Any:
    with world.database.read() as connection:
        return device_gaps(connection, device.id, **page)


def test_rejections_come_newest_first_in_pages(world: Any):
    gateway, device, other = world.gateway(), world.device(), world.device()
    first = device.next(samples=2)
    world.send(gateway, first, first, first, other.next())
    world.send(gateway, first, device.seal(1, 9, key=bytes(32)), device.next(samples=3))
    with world.database.read() as connection:
        pages = []
        before = None
        while True:
            page = device_verdicts(connection, device.id, 2, before)
            pages.append(page)
            before = page.next_before
            if before is None:
                break
    assert [(len(page.rejections), page.accepted_reports, page.accepted_samples) for page in pages] == [
        (2, 2, 5)
    ] * 2
    rejections = [item for page in pages for item in page.rejections]
    assert [(*r.place, r.verdict, r.proven) for r in rejections] == [
        (1, 1, "bad_mac", False),
        (1, 0, "duplicate", True),
        (0, 2, "duplicate", True),
        (0, 1, "duplicate", True),
    ]
    assert rejections[0].received_ms == world.now_ms
    assert [(page.rejected, page.rejected_complete) for page in pages] == [
        ({"bad_mac": 1, "duplicate": 3}, True)
    ] * 2


def test_rejections_counted_are_bounded_and_the_answer_says_so(world: Any, monkeypatch: Any):
    monkeypatch.setattr(verdicts_module, "REJECTIONS_COUNTED_MAX", 2)
    gateway, device = world.gateway(), world.device()
    first = device.next()
    world.send(gateway, first, first, first, first, device.seal(1, 9, key=bytes(32)))
    with world.database.read() as connection:
        found = device_verdicts(connection, device.id, 10)
    assert (found.rejected, found.rejected_complete) == ({"bad_mac": 1, "duplicate": 1}, False)
    assert len(found.rejections) == 4


def test_a_device_that_sent_nothing(world: Any):
    device = world.device()
    assert gaps(world, device) == []
    with world.database.read() as connection:
        page = device_verdicts(connection, device.id, 10)
    assert (page.accepted_reports, page.rejections, page.next_before) == (0, (), None)


@pytest.mark.threat(9)
def test_withheld_reports_are_gaps(world: Any):
    gateway, device = world.gateway(), world.device()
    sealed = [device.next() for _ in range(12)]
    world.send(gateway, *(sealed[i] for i in (2, 3, 4, 7, 10)))
    device.restart()
    world.send(gateway, device.next(previous_end=12))
    newest, older = gaps(world, device)
    assert (newest.boot, newest.missing_reports, newest.ranges, newest.more) == (2, 0, (), False)
    assert (older.boot, older.seq_max, older.declared_end, older.received_reports) == (1, 10, 12, 5)
    assert older.missing_reports == 7
    assert older.ranges == (
        Range(0, 1, "missing"),
        Range(5, 6, "missing"),
        Range(8, 9, "missing"),
        Range(11, 11, "missing"),
    )
    assert not older.more


def test_boots_come_in_pages_and_each_knows_its_declared_end(world: Any):
    gateway, device = world.gateway(), world.device()
    for end in (2, 3, 4):
        world.send(gateway, device.next())
        device.restart()
        world.send(gateway, device.next(previous_end=end))
        device.restart()
    every = gaps(world, device)
    assert [(boot.boot, boot.declared_end, boot.missing_reports) for boot in every] == [
        (6, None, 0),
        (5, 4, 3),
        (4, None, 0),
        (3, 3, 2),
        (2, None, 0),
        (1, 2, 1),
    ]
    pages = gaps(world, device, limit=1)
    while pages[-1].boot > 1:
        pages += gaps(world, device, limit=1, before_boot=pages[-1].boot)
    assert pages == every
    assert all(boot.first_seen_ms == boot.last_seen_ms == world.now_ms for boot in every)


def test_only_the_newest_numbers_of_a_boot_are_looked_at(world: Any, monkeypatch: Any):
    gateway, device = world.gateway(), world.device()
    sealed = [device.next(samples=0, usage=Usage(0, 0, 0, 0)) if i == 3 else device.next() for i in range(30)]
    world.send(gateway, *(sealed[i] for i in (0, 3, 12, 20, 29)))
    everything = gaps(world, device)[0]
    assert everything.ranges == tuple(
        Range(first, last, "missing") for first, last in ((1, 2), (4, 11), (13, 19), (21, 28))
    )
    assert (everything.more, everything.claim.counted_reports) == (False, 1)
    monkeypatch.setattr(gaps_module, "SEQ_SCANNED_MAX", 15)  # the numbers 15 to 29
    found = gaps(world, device)[0]
    assert found.ranges == (Range(15, 19, "missing"), Range(21, 28, "missing"))
    assert (found.missing_reports, found.more) == (25, True)
    assert (found.claim.seq, found.claim.counted_reports) == (3, None)


def test_a_gateways_summary_explains_a_gap_until_the_reports_come(world: Any):
    gateway = world.gateway()
    device = world.device(gateway=gateway)
    sealed = [device.next() for _ in range(10)]
    world.send(gateway, sealed[0], sealed[9], summarised=[Summarised(device.id, 1, [(0, 2), (5, 6)])])
    assert gaps(world, device)[0].ranges == (
        Range(1, 2, "summarised"),
        Range(3, 4, "missing"),
        Range(5, 6, "summarised"),
        Range(7, 8, "missing"),
    )
    world.send(gateway, *sealed[1:7])
    assert gaps(world, device)[0].ranges == (Range(7, 8, "missing"),)


def test_summaries_that_overlap_explain_a_number_once(world: Any):
    gateway = world.gateway()
    device = world.device(gateway=gateway)
    sealed = [device.next() for _ in range(10)]
    for ranges in ([(1, 3), (8, 20)], [(2, 4)], [(5, 5)]):
        report = sealed[7] if ranges == [(5, 5)] else sealed[0]
        world.send(gateway, report, summarised=[Summarised(device.id, 1, ranges)])
    world.send(gateway, sealed[9])
    found = gaps(world, device)[0]
    assert found.ranges == (Range(1, 5, "summarised"), Range(6, 6, "missing"), Range(8, 8, "summarised"))
    assert (found.summarised_reports, found.missing_reports, found.more) == (6, 7, False)


def test_a_claim_stands_beside_what_was_counted_before_it(world: Any):
    gateway, device = world.gateway(), world.device()
    sealed = [device.next(samples=2) for _ in range(3)]
    usage = device.next(samples=0, usage=Usage(3, 6, 600, 1))
    after = device.next(samples=5)
    world.send(gateway, sealed[0], sealed[2], usage, after)
    claim = gaps(world, device)[0].claim
    assert claim == Claim(3, 3, 6, 600, 1, 2, 4, len(sealed[0]) + len(sealed[2]))


def test_listed_ranges_are_bounded_and_the_count_stays_exact(world: Any):
    gateway, device = world.gateway(), world.device()
    for _ in range(250):
        device.seq += 1
        world_report = device.next(samples=1)
        device.kept = [*getattr(device, "kept", []), world_report]
    world.send(gateway, *device.kept)
    found = gaps(world, device)[0]
    assert (found.missing_reports, len(found.ranges), found.more) == (250, 100, True)


def test_alarms_in_pages(world: Any):
    with world.database.write() as connection:
        for number in range(5):
            assert raise_alarm(connection, "k", f"s{number}", "d", number)
    with world.database.read() as connection:
        first = list_alarms(connection, 3)
        rest = list_alarms(connection, 3, first[-1].id)
    assert [alarm.subject for alarm in (*first, *rest)] == ["s4", "s3", "s2", "s1", "s0"]
