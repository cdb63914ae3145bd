"""The whole device: real firmware in a real MicroPython, a real broker, a gateway that checks every byte."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from device_process import DEVICE, SECRET, DeviceProcess
from private_broker import PrivateBroker
from small_gateway import SmallGateway

from surge_wire import topics
from surge_wire.command import RESTART, SAMPLE_NOW, SET_REPORT_INTERVAL
from surge_wire.hkdf import mqtt_password
from surge_wire.limits import ACK_LEN_MAX

Start = Callable[..., DeviceProcess]

RESTART_EXIT_CODE = 75
IN_FLIGHT_MAX = 16
SLOW = {"report_interval_s": 86400}  # one reading at start; more by command only


def settle(data: Path, **settings: object) -> None:
    """Change settings before a start."""
    path = data / "settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def last_status(device: DeviceProcess) -> dict[str, str]:
    line = [line for line in device.seen if " status " in line][-1]
    return dict(re.findall(r"(\w+)=(\S*)", line))


def test_acked_reports_leave_the_outbox_and_usage_adds_up(
    gateway: SmallGateway, data: Path, start: Start
) -> None:
    gateway.acking = True
    device = start(data)
    gateway.wait_for((1, 40))
    assert device.stop() == 130, "\n".join(device.seen)
    gateway.wait_until(lambda: gateway.states == ["online", "offline"], "the last will")
    status = last_status(device)
    assert (status["boot"], status["dropped"]) == ("1", "0")
    assert int(status["acked"]) >= 39
    reports = [gateway.reports[1, seq] for seq in range(41)]
    assert [report.seq for report in reports if report.usage] == list(range(0, 41, 6))
    for report in reports:
        if report.usage:
            before = reports[: report.seq]
            assert report.usage.reports == report.seq
            assert report.usage.samples == sum(len(each.records()) for each in before)
            assert report.usage.bytes == sum(len(gateway.envelopes[1, each.seq]) for each in before)
    assert [report.uptime_ms for report in reports] == sorted(report.uptime_ms for report in reports)
    assert all(report.previous_end is None for report in reports)
    assert not [line for line in device.seen if line[:1] in "WE"], device.seen


def test_a_device_that_is_stopped_says_what_is_not_acked_and_goes_in_order(
    broker: PrivateBroker, gateway: SmallGateway, data: Path, start: Start
) -> None:
    device = start(data)
    gateway.wait_for((1, 6))
    gateway.ack(1, (0, 4))
    gateway.wait_for((1, IN_FLIGHT_MAX + 4))
    assert device.stop(signal.SIGTERM) == 143
    gateway.wait_until(lambda: gateway.states == ["online", "offline"], "offline")
    assert device.seen[-1].endswith("end unacked=" + ",".join(map(str, range(5, IN_FLIGHT_MAX + 5))))
    assert last_status(device)["waiting"] >= str(IN_FLIGHT_MAX)
    broker.kill()
    device = start(data)
    device.wait_for("mqtt.retry")
    assert device.stop(signal.SIGTERM) == 143


def test_values_are_this_machines(gateway: SmallGateway, data: Path, start: Start) -> None:
    gateway.acking = True
    settle(data, report_interval_s=0.3)
    start(data)
    report = gateway.wait_for((1, 3))
    found = {record.name: (record.value, record.unit) for record in report.records()}
    meminfo = dict(re.findall(r"(\w+): +(\d+) kB", Path("/proc/meminfo").read_text()))
    disk = os.statvfs(data)
    assert found["mem_total"] == (int(meminfo["MemTotal"]) * 1024, "B")
    assert found["disk_total"] == (disk.f_frsize * disk.f_blocks, "B")
    free = int(meminfo["MemAvailable"]) * 1024
    assert free / 2 < float(found["mem_free"][0]) < free * 2
    available = disk.f_frsize * disk.f_bavail
    assert available / 2 < float(found["disk_free"][0]) < available * 2 + 1
    assert 0 <= float(found["cpu"][0]) <= 100
    assert found["cpu"][1] == "%"
    host_uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 <= host_uptime - float(found["host_uptime"][0]) < 3600
    assert 0 <= float(found["uptime"][0]) <= report.uptime_ms / 1000 + 1
    received = sum(
        int(line.split(":")[1].split()[0])
        for line in Path("/proc/net/dev").read_text().splitlines()
        if ":" in line and not line.strip().startswith("lo:")
    )
    if "rx_bytes" in found:  # a machine may have nothing but loopback
        assert 0 <= float(found["rx_bytes"][0]) <= received


@pytest.mark.slow
def test_without_acks_the_window_fills_and_the_same_bytes_come_again(
    gateway: SmallGateway, data: Path, start: Start
) -> None:
    device = start(data)
    gateway.wait_for((1, IN_FLIGHT_MAX - 1))
    for name in ((1, 0), (1, IN_FLIGHT_MAX - 1)):
        gateway.wait_until(lambda name=name: gateway.count(name) >= 2, f"the repetition of {name}")
    assert max(seq for _, seq in gateway.reports) == IN_FLIGHT_MAX - 1
    gateway.acking = True
    gateway.ack_all(1)
    gateway.wait_for((1, 2 * IN_FLIGHT_MAX))
    assert device.stop() == 130, "\n".join(device.seen)
    # SmallGateway has compared the bytes of each repetition
    assert gateway.count((1, 2 * IN_FLIGHT_MAX)) == 1


@pytest.mark.slow
def test_a_hole_is_repeated_and_holds_nothing_up(gateway: SmallGateway, data: Path, start: Start) -> None:
    start(data)
    gateway.wait_for((1, IN_FLIGHT_MAX - 1))
    gateway.ack(1, (0, 2), (4, IN_FLIGHT_MAX - 1))
    gateway.wait_for((1, 2 * IN_FLIGHT_MAX - 2))
    gateway.wait_until(lambda: gateway.count((1, 3)) >= 2, "the repetition of 3")
    assert gateway.count((1, 4)) == gateway.count((1, 2)) == 1


@pytest.mark.threat(5)
def test_a_killed_device_comes_back_with_the_next_boot_and_its_unacked_reports(
    gateway: SmallGateway, data: Path, start: Start
) -> None:
    device = start(data)
    gateway.wait_for((1, 9))
    gateway.ack(1, (0, 3))
    gateway.wait_for((1, IN_FLIGHT_MAX + 3))  # the ack opened the window
    device.kill()
    end = 1 + max(seq for boot, seq in gateway.reports if boot == 1)
    gateway.wait_until(lambda: "offline" in gateway.states, "the last will")
    gateway.arrivals.clear()
    device = start(data)
    device.wait_for("boot=2")
    gateway.wait_until(lambda: len(gateway.arrivals) >= end - 4, "the unacked reports")
    assert gateway.arrivals[: end - 4] == [(1, seq) for seq in range(4, end)]
    gateway.ack(1, (0, end - 1))
    first = gateway.wait_for((2, 0))
    assert first.previous_end == end
    gateway.acking = True
    gateway.ack_all(2)
    gateway.wait_for((2, 30))
    device.kill()
    end = 1 + max(seq for boot, seq in gateway.reports if boot == 2)
    start(data).wait_for("boot=3")
    assert gateway.wait_for((3, 0)).previous_end == end


@pytest.mark.slow
@pytest.mark.threat(16)
def test_a_broker_that_dies_costs_nothing(
    broker: PrivateBroker, gateway: SmallGateway, data: Path, start: Start
) -> None:
    gateway.acking = True
    device = start(data)
    gateway.wait_for((1, 10))
    for _ in range(2):
        broker.kill()
        device.wait_for("mqtt.down")
        connections, made = gateway.connections, max(seq for _, seq in gateway.reports)
        broker.start()
        gateway.wait_until(lambda before=connections: gateway.connections > before, "the gateway's return")
        device.wait_for("mqtt.up")
        gateway.wait_for((1, made + 2 * IN_FLIGHT_MAX))
    assert device.stop() == 130, "\n".join(device.seen)
    assert sorted(gateway.reports) == [(1, seq) for seq in range(len(gateway.reports))]


def test_a_lost_ack_costs_a_repetition(gateway: SmallGateway, data: Path, start: Start) -> None:
    settle(data, **SLOW)
    start(data)
    gateway.wait_for((1, 0))  # an ack would go here, and is lost
    gateway.wait_until(lambda: gateway.count((1, 0)) == 2, "the repetition")
    gateway.ack(1, (0, 0))
    gateway.command(1, SAMPLE_NOW)
    gateway.wait_for((1, 1))
    gateway.wait_until(lambda: gateway.count((1, 1)) == 2, "the repetition of the next")
    assert gateway.count((1, 0)) == 2


def test_garbage_from_the_gateway_changes_nothing(gateway: SmallGateway, data: Path, start: Start) -> None:
    settle(data, **SLOW)
    device = start(data)
    gateway.wait_for((1, 0))
    for payload in (b"", b"\xff" * 20, bytes(ACK_LEN_MAX + 1), bytes(8000)):
        gateway.publish(topics.ACK, payload)
        gateway.publish(topics.COMMAND, payload, qos=1)
    gateway.command(1, SAMPLE_NOW)
    gateway.wait_for((1, 1))
    assert device.stop() == 130, "\n".join(device.seen)
    assert last_status(device)["acked"] == "0"
    assert any("command.refused" in line for line in device.seen)


def test_the_clock_comes_from_acks(gateway: SmallGateway, data: Path, start: Start) -> None:
    settle(data, **SLOW)
    start(data)
    assert gateway.wait_for((1, 0)).time_ms is None
    gateway.clock_offset_ms = 3_600_000
    gateway.ack(1, (0, 0))
    before = gateway.now_ms()
    gateway.command(1, SAMPLE_NOW)
    report = gateway.wait_for((1, 1))
    assert report.time_ms is not None
    assert before - 1000 <= report.time_ms <= gateway.now_ms()


def test_commands_are_executed_once(gateway: SmallGateway, data: Path, start: Start) -> None:
    gateway.acking = True
    settle(data, **SLOW)
    device = start(data)
    gateway.wait_for((1, 0))
    for _ in range(3):
        gateway.command(1, SAMPLE_NOW)
    gateway.command(2, 99)  # not known: remembered and skipped
    gateway.command(3, SET_REPORT_INTERVAL, {1: 0})  # out of range: the same
    gateway.command(4, SAMPLE_NOW)
    device.wait_for("counter=4")
    assert gateway.wait_for((1, 2)).command_counter == 4
    assert gateway.reports[1, 1].command_counter == 1
    gateway.command(5, SET_REPORT_INTERVAL, {1: 1})
    assert gateway.wait_for((1, 4)).command_counter == 5
    step_ms = gateway.reports[1, 4].uptime_ms - gateway.reports[1, 3].uptime_ms
    assert 900 <= step_ms < 86_400_000  # from reading to reading; a report's uptime is a little later
    gateway.command(6, RESTART)
    assert device.ended() == RESTART_EXIT_CODE
    gateway.wait_until(lambda: gateway.states[-1] == "offline", "offline")
    assert len([line for line in device.seen if " command " in line]) == 4
    device = start(data)
    gateway.command(6, RESTART)  # again: a gateway repeats until the counter comes back
    assert gateway.wait_for((2, 0)).command_counter == 6
    gateway.command(7, SAMPLE_NOW)
    assert gateway.wait_for((2, 1)).command_counter == 7


def test_a_wrong_password_is_one_clear_line_and_no_crash(
    broker: PrivateBroker, data: Path, start: Start
) -> None:
    secret = "ab" * 32
    (data / "identity.json").write_text(json.dumps({"device": DEVICE, "secret": secret}))
    device = start(data)
    line = device.wait_for("mqtt.retry")
    assert "the broker refused the connection" in line
    assert "wrong user name or password" in line or "not authorised" in line
    device.wait_for("status")
    assert device.stop() == 130, "\n".join(device.seen)
    everything = "\n".join(device.seen)
    assert "Traceback" not in everything
    for hidden in (secret, mqtt_password(bytes.fromhex(secret)), SECRET.hex()):
        assert hidden not in everything


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("settings.json", "{", "no JSON object; remedy: check commas"),
        ("settings.json", '{"broker_prt": 1883}', "did you mean 'broker_port'?"),
        ("settings.json", '{"broker_port": 99999}', "'broker_port' must be 1 to 65535"),
        ("settings.json", '{"sensors": [{"driver": "thermo"}]}', "no driver 'thermo'; remedy:"),
        ("settings.json", '{"sensors": [{"driver": "file", "pth": "/x"}]}', "did you mean 'path'?"),
        ("identity.json", None, "no identity at "),
        ("identity.json", '{"device": "x"}', "remedy: provision the device again"),
        ("floor.json", None, "remedy: write "),
        ("outbox", "a file, and no directory", "error 20"),
    ],
)
def test_what_must_be_put_right_first_is_one_line_and_exit_code_2(
    name: str, text: str | None, said: str, data: Path, start: Start
) -> None:
    path = data / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    device = start(data)
    assert device.ended() == 2
    (line,) = device.seen
    assert line.startswith("E start ")
    assert said in line
    assert "remedy: " in line


def test_a_directory_that_is_not_there_is_one_line_and_exit_code_2(tmp_path: Path, start: Start) -> None:
    device = start(tmp_path / "no" / "such")
    assert device.ended() == 2
    (line,) = device.seen
    assert str(tmp_path / "no" / "such") in line
    assert "remedy: " in line
