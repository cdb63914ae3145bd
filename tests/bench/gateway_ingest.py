"""How many reports a second one gateway makes durable and acknowledges, against a bare paho receive loop.

    python tests/bench/gateway_ingest.py [--reports 40000] [--devices 20] [--runs 3]

One nats-server, as Surge embeds it, for both. A publisher process sends real, sealed reports as their
devices, as fast as the broker takes them. Measured for the gateway (a real `surge gateway` process that
checks, spools, fsyncs, acknowledges, batches, signs and sends to a test backend): from the first report to
the ack that covers the last. Measured for paho: a process that subscribes and counts, from the first
message to the last. Absolute figures mean little on another machine; the ratio in one run says what the
gateway's work costs. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import pickle
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]
_ROOT = _TESTS.parent
_FOLDERS = [_ROOT / name for name in ("protocol", "gateway", "tools")]
_FOLDERS += [_TESTS / "contract", _TESTS / "unit" / "gateway" / "support"]
sys.path[:0] = [str(folder) for folder in _FOLDERS]

import brokers  # noqa: E402
import structlog  # noqa: E402
from gateway_http import ENROLMENT_TOKEN, TestBackend, running_backend  # noqa: E402
from gateway_reports import Device, make_device  # noqa: E402

from surge_wire.ack import decode_ack  # noqa: E402
from surge_wire.senml import make_record  # noqa: E402

Work = list[tuple[str, str, list[bytes]]]  # device id, password, reports
RUN_TIMEOUT_S = 120
CHUNK_PACKETS = 100
ACK_WAIT_S = 2.0  # for an ack to come; then what it should name was lost on the way


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# --- publisher: all devices in one process -------------------------------------------------------------


def _text(text: str) -> bytes:
    return struct.pack("!H", len(text)) + text.encode()


def _packet(kind: int, body: bytes) -> bytes:
    length = len(body)
    head = bytes([length]) if length < 128 else bytes([length % 128 | 0x80, length // 128])
    return bytes([kind]) + head + body


async def _read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 128:
            return kind, await reader.readexactly(length)


class Connection:
    def __init__(self, device_id: str, password: str, reports: list[bytes]) -> None:
        self.device_id = device_id
        self.password = password
        self.count = len(reports)
        topic = _text(f"surge/1/{device_id}/report")
        self.packets = [_packet(0x30, topic + report) for report in reports]
        self.acknowledged = 0
        self.last_ack_s = 0.0

    async def open(self, port: int) -> None:
        self.reader, self.writer = await asyncio.open_connection(brokers.HOST, port)
        connect = _text("MQTT") + b"\x04\xc2\x00\x00" + _text(self.device_id)
        self.writer.write(_packet(0x10, connect + _text(self.device_id) + _text(self.password)))
        if (await _read_packet(self.reader))[1] != b"\x00\x00":
            raise SystemExit("the broker refused a device")
        self.writer.write(_packet(0x82, b"\x00\x01" + _text(f"surge/1/{self.device_id}/ack") + b"\x00"))
        await _read_packet(self.reader)

    async def send(self) -> None:
        for start in range(0, self.count, CHUNK_PACKETS):
            self.writer.write(b"".join(self.packets[start : start + CHUNK_PACKETS]))
            await self.writer.drain()

    async def until_acknowledged(self) -> None:
        """Until an ack names the last report, or none comes any more."""
        while self.acknowledged < self.count:
            try:
                async with asyncio.timeout(ACK_WAIT_S + (0 if self.last_ack_s else RUN_TIMEOUT_S / 4)):
                    kind, body = await _read_packet(self.reader)
            except TimeoutError:
                return
            if kind & 0xF0 == 0x30:
                topic_len = struct.unpack_from("!H", body)[0]
                ranges = decode_ack(body[2 + topic_len :]).ranges
                self.acknowledged = sum(last - first + 1 for first, last in ranges)
                self.last_ack_s = time.perf_counter()


async def publisher(port: int, work: Work, acks: bool) -> None:
    connections = [Connection(*part) for part in work]
    for connection in connections:
        await connection.open(port)
    began_s = time.perf_counter()
    waiting = (
        asyncio.gather(*(connection.until_acknowledged() for connection in connections)) if acks else None
    )
    await asyncio.gather(*(connection.send() for connection in connections))
    if waiting is None:
        for connection in connections:  # the broker has read all before it answers
            connection.writer.write(b"\xc0\x00")
            await _read_packet(connection.reader)
        return
    await waiting
    acknowledged = sum(connection.acknowledged for connection in connections)
    wall_s = max(connection.last_ack_s for connection in connections) - began_s
    say(json.dumps({"reports": acknowledged, "per_s": acknowledged / wall_s}))


# --- what takes them in --------------------------------------------------------------------------------


def paho(port: int, messages: int) -> None:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2, client_id="bench")
    client.username_pw_set(brokers.GATEWAY_ID, brokers.GATEWAY_PASSWORD)
    times: list[float] = []
    cpu_s: list[float] = []

    def take(_client: Any, _data: Any, _message: Any) -> None:
        times.append(time.perf_counter())
        if len(times) in (1, messages):
            cpu_s.append(time.process_time())
            if len(times) == messages:
                client.disconnect()

    client.on_connect = lambda *_: client.subscribe("surge/1/+/report")
    client.on_subscribe = lambda *_: say("ready")
    client.on_message = take
    client.connect(brokers.HOST, port)
    client.loop_forever()
    per_s = messages / (times[-1] - times[0])
    say(json.dumps({"reports": messages, "per_s": per_s, "per_cpu_s": messages / (cpu_s[1] - cpu_s[0])}))


def write_gateway(folder: Path, backend: TestBackend, port: int) -> Path:
    config = folder / "gateway.toml"
    config.write_text(
        f"""
[gateway]
state_dir = "state"
broker = "external"
log_level = "warning"
[backend]
url = "{backend.url}"
[mqtt]
port = {port}
password_file = "password"
[ingress]
reports_per_s_max = 100000.0
reports_burst_max = 1000000
pending_bytes_max = 67_108_864
[status]
enabled = true
"""
    )
    (folder / "password").write_text(brokers.GATEWAY_PASSWORD)
    (folder / "token").write_text(ENROLMENT_TOKEN)
    surge("gateway", "init", "--config", str(config), "--enrolment-token-file", str(folder / "token"))
    return config


def surge(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "surge_cli", *arguments], check=True, env=_environment(), stdout=sys.stderr
    )


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(folder) for folder in _FOLDERS)}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the measurement -----------------------------------------------------------------------------------


def me(role: str, port: int, *more: str) -> list[str]:
    return [sys.executable, __file__, "--role", role, "--port", str(port), *more]


def measure_paho(port: int, work_file: Path, count: int) -> dict[str, float]:
    command = me("paho", port, "--reports", str(count))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        subprocess.run(me("publisher", port, "--work", str(work_file)), check=True)
        try:
            return dict(json.loads(process.communicate(timeout=RUN_TIMEOUT_S)[0]))
        except BaseException:
            process.kill()
            raise


def measure_gateway(
    port: int, folder: Path, work_file: Path, count: int, profile: Path | None
) -> dict[str, float]:
    import httpx

    with running_backend() as backend:
        with work_file.open("rb") as file:
            work: Work = pickle.load(file)
        for device_id, _password, _reports in work:
            backend.add_device(Device(device_id, b"k" * 32))
        config = write_gateway(folder, backend, port)
        command = [sys.executable, "-m", "surge_cli", "gateway", "--config", str(config)]
        if profile is not None:
            command[1:1] = ["-m", "cProfile", "-o", str(profile)]
        with subprocess.Popen(command, env=_environment()) as process:
            try:
                url = folder / "state" / "status.url"
                ready = False
                while not ready:
                    time.sleep(0.05)
                    if url.exists():
                        status = httpx.get(url.read_text().strip() + "/status").json()
                        ready = not status["waiting_for"] and status["devices"]["enrolled"] == len(work)
                before_s = _cpu_s(process.pid)
                publish = me("publisher", port, "--work", str(work_file), "--acks")
                out = subprocess.run(publish, check=True, stdout=subprocess.PIPE, text=True).stdout
                result = dict(json.loads(out))
                result["per_cpu_s"] = result["reports"] / (_cpu_s(process.pid) - before_s)
                confirmed = 0
                while confirmed < result["reports"]:  # receipts for all: sealing and sending are work too
                    time.sleep(0.05)
                    confirmed = httpx.get(url.read_text().strip() + "/status").json()["reports"]["confirmed"]
                result["confirmed_per_cpu_s"] = confirmed / (_cpu_s(process.pid) - before_s)
                return result
            finally:
                process.terminate()
                process.wait()


def make_work(devices: int, count: int) -> Work:
    pack = [
        make_record("cpu", "%", 12.5),
        make_record("memory_free", "B", 123_456_789),
        make_record("temperature", "Cel", 41.25),
    ]
    work = []
    for seed in range(devices):
        device = make_device(seed)
        reports = [device.report(pack=pack) for _ in range(count // devices)]
        work.append((device.device_id, brokers.password_of(device.device_id), reports))
    return work


async def compare(devices: int, count: int, runs: int, profile: Path | None) -> dict[str, Any]:
    work = make_work(devices, count)
    count = sum(len(reports) for _, _, reports in work)
    results: dict[str, list[dict[str, float]]] = {"paho": [], "gateway": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work_file = folder / "work"
        work_file.write_bytes(pickle.dumps(work))
        credentials = [brokers.credential_of(device_id) for device_id, _, _ in work]
        async with brokers.running("nats", folder, credentials) as broker:
            for number in range(runs):
                results["paho"].append(await asyncio.to_thread(measure_paho, broker.port, work_file, count))
                site = folder / f"gateway-{number}"
                site.mkdir()
                results["gateway"].append(
                    await asyncio.to_thread(measure_gateway, broker.port, site, work_file, count, profile)
                )
    median = {
        name: {key: statistics.median(run[key] for run in taken) for key in taken[0]}
        for name, taken in results.items()
    }
    ratios = {key: median["gateway"][key] / median["paho"][key] for key in ("per_s", "per_cpu_s")}
    return {"reports": count, "runs": runs, **median, "ratio": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reports", type=int, default=40_000)
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--profile", type=Path, help="write the gateway's cProfile here (slows it down)")
    parser.add_argument("--role", choices=("publisher", "paho"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--acks", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # stdout is for figures
    if options.role == "paho":
        paho(options.port, options.reports)
    elif options.role == "publisher":
        with options.work.open("rb") as file:
            asyncio.run(publisher(options.port, pickle.load(file), options.acks))
    else:
        outcome = asyncio.run(compare(options.devices, options.reports, options.runs, options.profile))
        for name in ("paho", "gateway"):
            say(f"{name:8} {outcome[name]['per_s']:>10,.0f}/s {outcome[name]['per_cpu_s']:>10,.0f}/CPU-s")
        say(json.dumps(outcome))


if __name__ == "__main__":
    main()
