"""A real gateway and its broker on a disk that really runs full (threat 15): nothing is acknowledged that is
not on it, sending goes on, and room that comes back is used without a restart.
"""

import asyncio
import contextlib
from pathlib import Path

import pytest
from gateway_site import MqttDevice, Site, free_port
from small_disk import SmallDisk, small_disk
from structlog.testing import capture_logs

from surge_gateway.broker.embedded import EmbeddedBroker
from surge_gateway.broker.settings import BrokerSettings
from surge_gateway.store import RESERVE_NAME
from surge_host.mqtt_credentials import make_gateway_credential

FullSite = tuple[Site, SmallDisk]


def unsafe_acks(site: Site, device: MqttDevice) -> list[bytes]:
    """Filled with whatever is acknowledged while neither the disk nor the backend has it."""
    unsafe: list[bytes] = []

    def look(report: bytes) -> None:
        folders = (site.state_dir / "spool", site.state_dir / "batches")
        held = any(report in path.read_bytes() for folder in folders for path in folder.glob("0*"))
        if not held and report not in site.backend.reports:
            unsafe.append(report)

    device.on_ack = look
    return unsafe


def is_waiting_for_disk(site: Site) -> bool:
    return "disk" in site.status()["waiting_for"]


@pytest.mark.threat(15)
@pytest.mark.parametrize("full_site", [True, False], indirect=True, ids=["full", "limited"])
def test_a_disk_that_runs_full_holds_acks_back_and_recovers_without_a_restart(full_site: FullSite) -> None:
    site, disk = full_site
    site.start()
    assert site.process is not None
    pid = site.process.pid
    device = site.connect()
    unsafe = unsafe_acks(site, device)
    device.make(20)
    device.until_acknowledged()
    for _ in range(2):
        disk.fill(pid)
        device.make(200)
        device.until(lambda: is_waiting_for_disk(site))
        assert device.outbox
        disk.free()
        device.until_acknowledged()
        device.until(lambda: not is_waiting_for_disk(site))
    site.backend.wait_until(site.arrived(device.device.made))
    assert unsafe == []
    assert sorted(site.backend.reports) == sorted(device.device.made)
    assert site.process.poll() is None
    if disk.is_mounted:  # else the log's file can't grow either, and that stops nothing
        assert "spool_not_writable" in site.log
        assert "free disk space" in site.log
    assert site.stop() == 0


@pytest.mark.threat(15)
def test_a_full_disk_sends_what_it_has_also_after_a_restart(full_site: FullSite) -> None:
    site, disk = full_site
    site.start()
    assert site.process is not None
    device = site.connect()
    unsafe = unsafe_acks(site, device)
    device.make(20)
    device.until_acknowledged()
    site.backend.wait_until(site.arrived(device.device.made))
    site.backend.down = True
    device.make(30)
    device.until_acknowledged()
    disk.fill(site.process.pid)
    site.kill()
    site.start()
    device.make(100)
    if disk.is_mounted:
        device.until(lambda: site.status_path.exists() and is_waiting_for_disk(site))
        assert len(device.acknowledged) < 150
    site.backend.down = False
    site.backend.wait_until(site.arrived(device.device.made[:50]))  # sent from the full disk
    disk.free()
    device.until_acknowledged()
    site.backend.wait_until(site.arrived(device.device.made))
    assert unsafe == []
    assert sorted(site.backend.reports) == sorted(device.device.made)


@pytest.mark.threat(15)
def test_a_start_without_any_room_waits_for_it(full_site: FullSite) -> None:
    site, disk = full_site
    site.start()
    assert site.process is not None
    device = site.connect()
    unsafe = unsafe_acks(site, device)
    device.make(20)
    device.until_acknowledged()
    site.backend.down = True
    device.make(30)
    device.until_acknowledged()
    site.kill()
    (site.state_dir / RESERVE_NAME).unlink(missing_ok=True)  # nothing to give back either
    for path in sorted((site.folder / "broker").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()  # nor a broker's file to overwrite
    disk.fill(0) if disk.is_mounted else None
    site.start()
    if disk.is_mounted:
        device.until(lambda: "no space left on device" in site.log.lower())
    site.backend.down = False
    device.make(30)
    disk.free()
    device.until_acknowledged()
    site.backend.wait_until(site.arrived(device.device.made))
    assert unsafe == []
    assert sorted(site.backend.reports) == sorted(device.device.made)
    assert site.process.poll() is None


@pytest.mark.threat(15)
async def test_a_broker_without_room_for_its_files_is_said_and_starts_when_there_is(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        if not disk.is_mounted:
            return  # there is no full disk to start on
        settings = BrokerSettings(port=free_port(), folder=disk.folder / "broker", restart_delay_ms=10)
        broker = EmbeddedBroker(settings, make_gateway_credential("gaaaaaaaaaaaaaaaa", "p"), [])
        disk.fill(0)
        with capture_logs() as logs:
            await broker.start_or_wait()
        (said,) = [entry for entry in logs if entry["event"] == "broker_not_started"]
        assert "No space left" in said["what"]
        assert "free space" in said["remedy"]
        task = asyncio.create_task(broker.run())
        try:
            disk.free()
            await broker.ready.wait()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await broker.stop()
