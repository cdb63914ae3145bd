"""The whole gateway as people run it: killed, restarted, cut off from broker and backend (threats 10, 14,
16, 17).
"""

import os
import shutil
import signal

import httpx
import pytest
from gateway_reports import make_device
from gateway_site import Site, free_port

from surge_wire.command import RESTART, Command, seal_command


def on_disk(site: Site, report: bytes) -> bool:
    folders = (site.state_dir / "spool", site.state_dir / "batches")
    return any(report in path.read_bytes() for folder in folders for path in folder.glob("0*"))


def test_reports_are_on_disk_or_receipted_when_they_are_acknowledged(site: Site) -> None:
    unsafe = []
    device = site.connect()
    device.on_ack = lambda report: (
        None if on_disk(site, report) or report in site.backend.reports else unsafe.append(report)
    )
    site.start()
    for _ in range(20):
        device.make(10)
    device.until_acknowledged()
    site.backend.wait_until(site.arrived(device.device.made))
    assert unsafe == []
    assert site.backend.state is not None
    assert [batch.seq for batch in site.backend.state.batches] == list(range(site.backend.state.next_seq))


@pytest.mark.threat(10)
@pytest.mark.threat(14)
def test_killed_again_and_again_loses_nothing_acknowledged(site: Site) -> None:
    device = site.connect()
    for round_number in range(4):
        site.start()
        device.make(50)
        half = len(device.acknowledged) + 25
        device.until(lambda half=half: len(device.acknowledged) >= half)
        device.make(50)
        if round_number % 2:
            site.backend.lose_answers = 1
        site.kill()
    site.start()
    device.until_acknowledged()
    site.backend.wait_until(site.arrived(device.acknowledged))
    assert len(device.acknowledged) == 400
    assert site.stop() == 0


@pytest.mark.threat(16)
def test_a_killed_broker_comes_back_and_nothing_is_lost(site: Site) -> None:
    device = site.connect()
    site.start()
    device.make(20)
    device.until_acknowledged()
    for _ in range(2):
        os.kill(site.broker_pid(), signal.SIGKILL)
        device.make(20)
        device.until_acknowledged()
    site.backend.wait_until(site.arrived(device.device.made))
    status = site.status()
    assert status["broker"]["restarts"] == 2
    assert status["broker"]["reconnects"] >= 2
    assert sorted(site.backend.reports) == sorted(device.device.made)  # nothing doubled either


def test_backend_away_for_many_attempts_then_everything_arrives(site: Site) -> None:
    site.backend.add_device(make_device(2))
    device = site.connect()
    site.start()
    device.make(5)
    device.until_acknowledged()  # so the registry is known and cached
    site.backend.wait_until(site.arrived(device.device.made))
    site.backend.down = True
    assert site.stop() == 0
    site.start()  # without a backend
    device.make(200)
    device.until_acknowledged()
    asked = site.backend.requests
    site.backend.wait_until(lambda: site.backend.requests > asked + 20)
    status = site.status()
    assert status["waiting_for"] == ["backend"]
    assert status["spool"]["waiting"] == 200
    site.backend.down = False
    site.backend.wait_until(site.arrived(device.device.made))
    assert sorted(site.backend.reports) == sorted(device.device.made)


def test_a_stop_sends_what_is_there(site: Site) -> None:
    site.write_config("[batch]\nage_ms = 3_600_000\n")
    device = site.connect()
    site.start()
    device.make(30)
    device.until_acknowledged()
    assert site.backend.reports == []  # the batch would stay open for an hour
    assert site.stop() == 0
    assert sorted(site.backend.reports) == sorted(device.device.made)


@pytest.mark.threat(17)
def test_only_its_own_reports_are_taken_from_a_device(site: Site) -> None:
    other = make_device(2)
    site.backend.add_device(other)
    device = site.connect()
    site.start()
    device.make()
    device.until_acknowledged()
    forged = other.report()
    device.publish(other.topic, forged)  # the broker drops it
    device.publish(device.device.topic, forged)  # the gateway does: topic and envelope differ
    device.publish(device.device.topic, b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff")
    device.make()
    device.until_acknowledged()
    status = site.status()
    refused = {reason: count for reason, count in status["reports"]["refused"].items() if count}
    assert refused == {"id_mismatch": 1, "malformed": 1}
    site.backend.wait_until(site.arrived(device.device.made))
    assert forged not in site.backend.reports


def test_commands_reach_the_device_until_it_reports_them_as_executed(site: Site) -> None:
    site.write_config("", "")
    device = site.connect()
    site.start()
    device.make()
    device.until_acknowledged()
    envelope = seal_command(device.device.device_id, b"k" * 32, Command(1, RESTART))
    site.backend.add_command(device.device.device_id, envelope)
    device.until(lambda: device.commands == [envelope])
    device.make(command_counter=1)
    device.until_acknowledged()
    asked = site.backend.requests
    site.backend.wait_until(lambda: site.backend.requests > asked + 20)
    assert site.status()["commands"] == {"waiting": 0, "published": 1}


def test_windows_in_place_of_readings_and_usage_as_it_came(site: Site) -> None:
    site.write_config("[aggregate]\nenabled = true\nwindow_s = 1\n")
    device = site.connect()
    site.start()
    device.make(10)
    device.make(usage=True)
    device.until_acknowledged()
    usage = device.device.made[-1]
    site.backend.wait_until(lambda: _stands_for(site) == 11)
    assert site.backend.reports == [usage]


def _stands_for(site: Site) -> int:
    batches = site.backend.state.batches if site.backend.state else []
    ranges = [pair for batch in batches for summary in batch.summarised for pair in summary.ranges]
    return len(site.backend.reports) + sum(last - first + 1 for first, last in ranges)


def test_no_broker_is_waited_for_and_said(site: Site) -> None:
    site.write_config(gateway='broker = "external"')
    site.config.write_text(site.config.read_text().replace("[mqtt]", f"[mqtt]\nport = {free_port()}"))
    site.start()
    asked = site.backend.requests
    site.backend.wait_until(lambda: site.backend.requests > asked + 5 and site.status_path.exists())
    health = httpx.get(site.status_path.read_text().strip() + "/healthz", trust_env=False).json()
    assert health == {"status": "waiting", "waiting_for": ["broker"]}
    assert site.stop() == 0


@pytest.mark.threat(16)
def test_a_mosquitto_that_others_run_may_come_and_go(site: Site) -> None:
    site.write_config(gateway='broker = "external"')
    site.config.write_text(site.config.read_text().replace("[mqtt]", f"[mqtt]\nport = {site.port}"))
    device = site.connect()
    with site.mosquitto():
        site.start()
        device.make(20)
        device.until_acknowledged()
    device.make(20)
    with site.mosquitto():
        device.until_acknowledged()
        site.backend.wait_until(site.arrived(device.device.made))
        assert site.status()["broker"]["reconnects"] == 1
    assert sorted(site.backend.reports) == sorted(device.device.made)


def test_a_port_in_use_is_an_error_with_a_remedy(site: Site) -> None:
    device = site.connect()
    site.start()
    device.make()
    device.until_acknowledged()
    other = site.folder / "other"
    shutil.copytree(site.state_dir, other / "state")
    (other / "gateway.toml").write_text(site.config.read_text())
    ended = site.surge("gateway", "--config", str(other / "gateway.toml"))
    assert ended.returncode == 2
    assert f"port {site.port} is in use" in ended.stderr
    assert "broker.port" in ended.stderr


def test_a_second_process_on_one_state_folder_is_refused(site: Site) -> None:
    device = site.connect()
    site.start()
    device.make()
    device.until_acknowledged()
    ended = site.surge("gateway", "--config", str(site.config))
    assert ended.returncode == 2
    assert "another gateway runs with this state folder" in ended.stderr


@pytest.mark.threat(10)
def test_a_restored_old_state_ends_with_a_remedy_and_keeps_the_spool(site: Site) -> None:
    device = site.connect()
    site.start()
    device.make(3)
    device.until_acknowledged()
    site.backend.wait_until(site.arrived(device.device.made))
    assert site.stop() == 0
    backup = site.folder / "backup"
    shutil.copytree(site.state_dir, backup)
    site.start()
    device.make(3)
    device.until_acknowledged()
    site.backend.wait_until(site.arrived(device.device.made))
    assert site.stop() == 0
    shutil.rmtree(site.state_dir)
    shutil.copytree(backup, site.state_dir)
    ended = site.surge("gateway", "--config", str(site.config))
    assert ended.returncode == 2
    assert "restored from a backup" in ended.stderr
