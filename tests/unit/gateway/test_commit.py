"""Acknowledged only after the fsync that covers it; a failing disk gives back-pressure, not false acks
(threat 15).
"""

import asyncio
import contextlib
import errno
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway_clock import FakeClock, until
from gateway_files import SimulatedFiles
from gateway_reports import Device, make_device

from surge_gateway import counters as reasons
from surge_gateway.backoff import Backoff
from surge_gateway.commit import Commit
from surge_gateway.counters import Counters
from surge_gateway.devices import Devices
from surge_gateway.ingress import Ingress
from surge_gateway.quota import Quota
from surge_gateway.recovered import remember_record
from surge_gateway.spool_record import Record
from surge_gateway.store import open_store
from surge_wire.ack import decode_ack

FOLDER = Path("state")
BURST = 16  # of every device in a flood


class Rig:
    def __init__(
        self,
        disk: SimulatedFiles,
        len_max: int = 1 << 20,
        pending_len_max: int = 1 << 20,
        burst: int = 10_000,
    ) -> None:
        self.disk = disk
        self.clock = FakeClock()
        self.counters = Counters()
        self.devices = Devices(burst)
        self.device = make_device()
        self.devices.enrol(self.device.device_id)
        self.found: list[bytes] = []  # in the spool, at the start
        self.store = open_store(
            disk,
            FOLDER,
            random.Random(1).randbytes,
            len_max=len_max,
            batch_len_max=1000,
            on_record=self.on_record,
        )
        self.ingress = Ingress(
            self.devices,
            Quota(1000, burst),
            self.clock,
            self.counters,
            report_len_max=4096,
            pending_len_max=pending_len_max,
        )
        self.acks: list[tuple[str, list[tuple[int, int]]]] = []
        self.commit = Commit(
            self.ingress,
            self.store,
            self.publish,
            self.on_disk,
            self.clock,
            self.counters,
            Backoff(200, 10_000, random.Random(1).random),
            stored=lambda: None,
        )

    def on_record(self, record: Record) -> None:
        self.found.append(record.report)
        remember_record(self.devices, record)

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> bool:
        assert (qos, retain) == (0, False)
        self.acks.append((topic, decode_ack(payload).ranges))
        return True

    async def on_disk(self, work: Callable[[], Any]) -> Any:
        return work()

    def receive(self, *reports: bytes) -> None:
        for report in reports:
            self.ingress.on_message(self.device.topic, report, False)

    def ack(self, *ranges: tuple[int, int]) -> tuple[str, list[tuple[int, int]]]:
        return f"surge/1/{self.device.device_id}/ack", list(ranges)


async def test_one_ack_covers_a_group_after_one_fsync() -> None:
    rig = Rig(SimulatedFiles())
    rig.receive(rig.device.report())
    await rig.commit.flush()  # also takes the reserve's room, and begins a segment
    before = rig.disk.operations
    rig.receive(*(rig.device.report() for _ in range(10)))
    assert rig.acks == [rig.ack((0, 0))]
    await rig.commit.flush()
    assert rig.acks == [rig.ack((0, 0)), rig.ack((0, 10))]
    assert rig.disk.operations - before == 2  # write, sync
    assert rig.counters.stored == 11


async def test_a_repeated_report_is_acknowledged_again_without_a_write() -> None:
    rig = Rig(SimulatedFiles())
    first = rig.device.report()
    rig.receive(first, rig.device.report())
    await rig.commit.flush()
    before = rig.disk.operations
    rig.receive(first)
    await rig.commit.flush()
    assert rig.acks == [rig.ack((0, 1)), rig.ack((0, 1))]
    assert rig.disk.operations == before


def flood_of(kind: str, flooder: Device, count: int) -> tuple[list[bytes], int]:
    """What a flooding device publishes, and how many of the first BURST have to be kept."""
    if kind == "reports":
        return [flooder.report() for _ in range(count)], BURST
    report = flooder.report()
    if kind == "repetitions":
        return [report] * count, 1
    if kind == "garbage":
        return [report[: number % len(report)] for number in range(count)], 0
    others = [Device(flooder.device_id, flooder.key).report(float(number)) for number in range(count)]
    return others, BURST  # evidence


@pytest.mark.threat(18)
@pytest.mark.parametrize("kind", ["reports", "repetitions", "garbage", "other bytes"])
async def test_a_flood_gets_its_share_and_takes_nothing_of_the_others(kind: str) -> None:
    """All in one read, the flood before and between the honest reports: whatever the honest sent is durable
    and acknowledged by the next fsync, and of the flood no more than its quota gets as far as the spool."""
    rig = Rig(SimulatedFiles(), burst=BURST)
    rig.receive(rig.device.report())
    await rig.commit.flush()  # also takes the reserve's room, and begins a segment
    flooder, *honest = [make_device(seed) for seed in range(2, 23)]
    for device in (flooder, *honest):
        rig.devices.enrol(device.device_id)
    flood, kept = flood_of(kind, flooder, 2_000)
    waves = iter(flood)
    for device in honest:
        for wave in itertools.islice(waves, len(flood) // len(honest)):
            rig.ingress.on_message(flooder.topic, wave, False)
        for _ in range(BURST):
            rig.ingress.on_message(device.topic, device.report(), False)
    assert next(waves, None) is None
    before, rig.acks = rig.disk.operations, []
    await rig.commit.flush()

    acknowledged = [(topic, ranges) for topic, ranges in rig.acks if flooder.device_id not in topic]
    assert acknowledged == [(f"surge/1/{one.device_id}/ack", [(0, BURST - 1)]) for one in honest]
    assert rig.disk.operations - before == 2  # write, sync: one round
    assert rig.counters.refused[reasons.OVER_QUOTA] == len(flood) - BURST
    found = Rig(rig.disk.restart()).found[1:]
    sent_honestly = [report for one in honest for report in one.made]
    assert [report for report in found if report in sent_honestly] == sent_honestly
    assert [report for report in found if report not in sent_honestly] == flood[:kept]


async def test_a_hole_shows_in_the_ack() -> None:
    rig = Rig(SimulatedFiles())
    reports = [rig.device.report() for _ in range(5)]
    rig.receive(reports[0], reports[1], reports[4])
    await rig.commit.flush()
    assert rig.acks == [rig.ack((0, 1), (4, 4))]


@pytest.mark.threat(15)
@pytest.mark.parametrize("operation", ["create", "write", "sync", "sync_folder"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_no_ack_while_the_disk_fails_and_all_acks_when_it_is_back(operation: str, number: int) -> None:
    rig = Rig(SimulatedFiles())
    rig.disk.fail = lambda kind, _path: number if kind == operation else None
    rig.receive(*(rig.device.report() for _ in range(3)))
    task = asyncio.create_task(rig.commit.flush())
    await until(lambda: len(rig.clock.slept) >= 5)
    assert rig.acks == []
    assert rig.commit.last_error
    rig.disk.fail = lambda _kind, _path: None
    await task
    assert rig.acks == [rig.ack((0, 2))]
    assert rig.commit.last_error == ""
    survivor = Rig(rig.disk.restart())
    assert survivor.store.waiting_count >= 3  # perhaps some twice, from the attempts


@pytest.mark.threat(15)
async def test_a_failing_disk_gives_back_pressure_and_what_was_refused_is_taken_later() -> None:
    rig = Rig(SimulatedFiles(), pending_len_max=1500)
    rig.disk.fail = lambda _kind, _path: errno.EIO
    reports = [rig.device.report() for _ in range(20)]
    rig.receive(*reports[:3])
    task = asyncio.create_task(rig.commit.flush())
    await until(lambda: bool(rig.clock.slept))
    rig.receive(*reports[3:])
    assert rig.counters.refused[reasons.SPOOL_BUSY] > 10
    rig.disk.fail = lambda _kind, _path: None
    await task
    for report in reports:
        rig.receive(report)
        await rig.commit.flush()
    assert rig.acks[-1] == rig.ack((0, 19))
    assert rig.counters.stored == 20


async def test_at_the_spools_limit_all_is_refused_until_receipts_free_it() -> None:
    rig = Rig(SimulatedFiles(), len_max=2000)
    task = asyncio.create_task(rig.commit.run())
    try:
        while rig.counters.refused[reasons.SPOOL_FULL] == 0:
            rig.receive(rig.device.report())
            await asyncio.sleep(0)
        rig.store.spool.release(rig.store.spool.end)
        await until(lambda: rig.ingress.refuse_all is None)
        rig.receive(rig.device.made[-1])
        await until(lambda: rig.acks[-1][1][-1][1] == rig.device.seq - 1)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_after_a_restart_what_is_on_disk_counts_as_received() -> None:
    rig = Rig(SimulatedFiles())
    report = rig.device.report()
    rig.receive(report, rig.device.report())
    await rig.commit.flush()
    survivor = Rig(rig.disk.restart())
    survivor.receive(report)
    await survivor.commit.flush()
    assert survivor.acks == [rig.ack((0, 1))]
    assert survivor.counters.stored == 0
