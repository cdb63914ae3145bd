"""What a device's owner sees: rejections with reasons in pages, gaps and what explains them, alarms."""

from typing import Any

import pytest

from surge_backend.db.alarms import raise_alarm
from surge_backend.db.queries import Claim, Range, alarms_page, device_gaps, device_verdicts
from surge_wire.batch import Summarised
from surge_wire.report import Usage


def gaps(world: Any, device: Any) -> Any:
    with world.database.read() as connection:
        return device_gaps(connection, device.id)


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
    assert [(r.log_index, r.position, r.verdict, r.proven) for r in rejections] == [
        (1, 1, "bad_mac", False),
        (1, 0, "duplicate", True),
        (0, 2, "duplicate", True),
        (0, 1, "duplicate", True),
    ]
    assert rejections[0].received_ms == world.now_ms


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
        first = alarms_page(connection, 3)
        rest = alarms_page(connection, 3, first.next_before)
    assert [alarm.subject for alarm in (*first.alarms, *rest.alarms)] == ["s4", "s3", "s2", "s1", "s0"]
    assert rest.next_before is None
