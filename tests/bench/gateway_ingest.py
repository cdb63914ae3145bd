"""How many reports a second one gateway makes durable and acknowledges, against a bare paho receive loop.

    python tests/bench/gateway_ingest.py [--reports 40000] [--runs 3] [--growth 100 1000 10000]

One nats-server, as Surge embeds it, for both. A publisher process sends real, sealed reports as their
devices, in turn, in waves of ``WAVE_REPORTS``: during each the receiver is stopped (SIGSTOP) and the broker
keeps what is for it, then the receiver goes on. So neither the publisher nor the broker's reading from
thousands of sockets is measured, which on two cores would be slower than both receivers. Measured for the
gateway (a real `surge gateway` process that checks, spools, fsyncs, acknowledges, batches, signs and sends
to a test backend): from where it goes on to the ack that covers the wave's last report, read by its device.
Measured for paho: a process that subscribes and counts, to the wave's last message. In turns, ``--runs``
times, for each number of devices; the median of the runs' ratios counts.

Absolute figures mean little on another machine; the ratio in one run says what the gateway's work costs.
``ratio_cpu`` says it by reports for each second of the receiver's own CPU time, whatever else the machine
does. ``confirmed_per_cpu_s`` goes on until the receipts for all are in: signing, sending and deleting are
work as well. The last line is JSON.
"""

import argparse
import asyncio
import itertools
import json
import os
import pickle
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any

_TESTS = Path(__file__).parents[1]
_ROOT = _TESTS.parent
_FOLDERS = [_ROOT / name for name in ("protocol", "gateway", "tools")]
_FOLDERS += [_TESTS / "contract", _TESTS / "unit" / "gateway" / "support", Path(__file__).parent]
sys.path[:0] = [str(folder) for folder in _FOLDERS]

import brokers  # noqa: E402
import structlog  # noqa: E402
from fleet import HOST, Fleet, Part, credentials  # noqa: E402
from gateway_reports import make_device  # noqa: E402
from site_gateway import FLOOD_SETTINGS, cpu_s, running_gateway  # noqa: E402

from surge_wire.senml import make_record  # noqa: E402

CHUNK_REPORTS = 20  # that a device sends at once before it is the next one's turn
WAVE_REPORTS = 4_000  # what the broker has to keep: it gives up a receiver that takes nothing for 10 s


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# --- publisher: all devices in one process -------------------------------------------------------------


async def publisher(port: int, work: list[Part], acks: bool) -> None:
    """Connects; for each wave, when it is told to on stdin: publishes it, says "published", and with ``acks``
    when the last one came.
    """
    fleet = Fleet(part.device_id for part in work)
    await fleet.open(port)
    sent = 0
    say("connected")
    for wave in waves_of(work):
        await asyncio.to_thread(sys.stdin.readline)
        devices = [fleet.connections[index] for index, _ in wave]
        for connection, (_, reports) in zip(devices, wave, strict=True):
            connection.publish(*reports)
            sent += len(reports)
        await asyncio.gather(*(connection.ping() for connection in devices))  # the broker has read all
        say("published")
        if acks:
            count = await fleet.until_acknowledged(sent)
            say(json.dumps({"reports": count, "at_s": fleet.last_ack_s}))


def waves_of(work: list[Part]) -> Iterator[list[tuple[int, list[bytes]]]]:
    """Everything, WAVE_REPORTS at a time: devices in turn, ``(device, a few reports of it)``."""
    wave: list[tuple[int, list[bytes]]] = []
    length = 0
    for start in range(0, len(work[0].reports), CHUNK_REPORTS):
        for index, part in enumerate(work):
            chunk = part.reports[start : start + CHUNK_REPORTS]
            wave.append((index, chunk))
            length += len(chunk)
            if length >= WAVE_REPORTS:
                yield wave
                wave, length = [], 0
    if wave:
        yield wave


def ends_of(work: list[Part]) -> list[int]:
    """After how many reports each wave ends."""
    return list(itertools.accumulate(sum(len(part) for _, part in wave) for wave in waves_of(work)))


# --- what takes them in --------------------------------------------------------------------------------


def paho(port: int, ends: list[int]) -> None:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2, client_id="bench")
    client.username_pw_set(brokers.GATEWAY_ID, brokers.GATEWAY_PASSWORD)
    taken = 0
    wanted = frozenset(ends)

    def take(_client: Any, _data: Any, _message: Any) -> None:
        nonlocal taken
        taken += 1
        if taken in wanted:
            now = {"at_s": time.perf_counter(), "cpu_s": time.process_time()}
            say(json.dumps({"reports": taken} | now))
        if taken == ends[-1]:
            client.disconnect()

    client.on_connect = lambda *_: client.subscribe("surge/1/+/report")
    client.on_subscribe = lambda *_: say(json.dumps({"cpu_s": time.process_time()}))
    client.on_message = take
    client.connect(HOST, port)
    client.loop_forever()


# --- the measurement -----------------------------------------------------------------------------------


def me(role: str, port: int, *more: str) -> list[str]:
    return [sys.executable, __file__, "--role", role, "--port", str(port), *more]


def measure_waves(
    receiver: int, command: list[str], ends: list[int], told_by: IO[str] | None = None
) -> tuple[float, dict[str, Any]]:
    """Seconds from where the receiver goes on to the end of each wave, and what was said at the last one.

    ``told_by`` says when a wave has ended; without, the publisher does.
    """
    total_s = 0.0
    ended = {}
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as publishing:
        try:
            assert publishing.stdin is not None
            assert publishing.stdout is not None
            publishing.stdout.readline()
            for end in ends:
                os.kill(receiver, signal.SIGSTOP)
                try:
                    publishing.stdin.write("go on\n")
                    publishing.stdin.flush()
                    if publishing.stdout.readline() != "published\n":
                        raise SystemExit("the publisher failed")
                finally:
                    began_s = time.perf_counter()
                    os.kill(receiver, signal.SIGCONT)
                line = (told_by or publishing.stdout).readline()
                if not line:
                    raise SystemExit("the receiver or the publisher ended in the middle")
                ended = json.loads(line)
                if ended["reports"] != end:
                    raise SystemExit(f"{ended['reports']} of {end} reports came through")
                total_s += ended["at_s"] - began_s
            publishing.wait()
        finally:
            publishing.kill()
    return total_s, ended


def measure_paho(port: int, work_file: Path, ends: list[int]) -> dict[str, float]:
    command = me("paho", port, "--ends", *map(str, ends))
    with subprocess.Popen(command, stdout=PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            before_s = json.loads(process.stdout.readline())["cpu_s"]
            publish = me("publisher", port, "--work", str(work_file))
            wall_s, ended = measure_waves(process.pid, publish, ends, process.stdout)
        finally:
            process.kill()
    return {"per_s": ends[-1] / wall_s, "per_cpu_s": ends[-1] / (ended["cpu_s"] - before_s)}


def measure_gateway(
    port: int, folder: Path, work_file: Path, ids: list[str], ends: list[int], profile: Path | None
) -> dict[str, float]:
    folder.mkdir()
    settings = f'[mqtt]\nport = {port}\npassword_file = "password"\n{FLOOD_SETTINGS}'
    secret = {"password": brokers.GATEWAY_PASSWORD}
    with running_gateway(
        folder, ids, broker="external", sections=settings, secrets=secret, profile=profile
    ) as site:
        pid = site.process.pid
        before_s = cpu_s(pid)
        publish = me("publisher", port, "--work", str(work_file), "--acks")
        wall_s, ended = measure_waves(pid, publish, ends)
        count = ended["reports"]
        spent_s = cpu_s(pid) - before_s
        site.wait_until_confirmed(count)
        return {
            "reports": count,
            "per_s": count / wall_s,
            "per_cpu_s": count / spent_s,
            "confirmed_per_cpu_s": count / (cpu_s(pid) - before_s),
        }


def make_work(devices: int, count: int) -> list[Part]:
    pack = [
        make_record("cpu", "%", 12.5),
        make_record("memory_free", "B", 123_456_789),
        make_record("temperature", "Cel", 41.25),
    ]
    work = []
    for seed in range(devices):
        device = make_device(seed)
        work.append(Part(device.device_id, [device.report(pack=pack) for _ in range(count // devices)]))
    return work


async def compare(devices: int, count: int, runs: int, profile: Path | None) -> dict[str, Any]:
    """For one number of devices: both, in turns."""
    work = make_work(devices, count)
    ends = ends_of(work)
    ids = [part.device_id for part in work]
    found: dict[str, list[dict[str, float]]] = {"paho": [], "gateway": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work_file = folder / "work"
        work_file.write_bytes(pickle.dumps(work))
        async with brokers.running("nats", folder, credentials(ids)) as broker:
            for number in range(runs):
                found["paho"].append(await asyncio.to_thread(measure_paho, broker.port, work_file, ends))
                site = folder / f"gateway-{number}"
                found["gateway"].append(
                    await asyncio.to_thread(measure_gateway, broker.port, site, work_file, ids, ends, profile)
                )
    median = {
        name: {key: round(statistics.median(run[key] for run in taken)) for key in taken[0]}
        for name, taken in found.items()
    }
    pairs = list(zip(found["gateway"], found["paho"], strict=True))
    ratios = [gateway["per_s"] / bare["per_s"] for gateway, bare in pairs]
    return {
        "devices": devices,
        "reports": ends[-1],
        **median,
        "ratio": round(statistics.median(ratios), 3),
        "ratio_cpu": round(statistics.median(g["per_cpu_s"] / b["per_cpu_s"] for g, b in pairs), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def result_of(cases: list[dict[str, Any]], runs: int) -> dict[str, Any]:
    by_devices = {str(case["devices"]): case for case in cases}
    first = cases[0]
    return {
        "gateway_ratio": first["ratio"],
        "gateway_ratio_by_devices": {size: case["ratio"] for size, case in by_devices.items()},
        "spread": {
            "gateway_ratio": first["spread"],
            "gateway_ratio_by_devices": {size: case["spread"] for size, case in by_devices.items()},
        },
        "runs": runs,
        "cases": cases,
        "notes": [
            f"{case['devices']:,} devices: {case['gateway']['per_s']:,} against {case['paho']['per_s']:,}"
            f" reports/s; by CPU time {case['ratio_cpu']} times paho's; with receipts"
            f" {case['gateway']['confirmed_per_cpu_s']:,} reports a CPU second"
            for case in cases
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reports", type=int, default=40_000)
    parser.add_argument("--growth", type=int, nargs="+", default=[100], metavar="DEVICES")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--profile", type=Path, help="write the gateway's cProfile here (slows it down)")
    parser.add_argument("--role", choices=("publisher", "paho"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ends", type=int, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--acks", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # stdout is for figures
    if options.role == "paho":
        paho(options.port, options.ends)
    elif options.role == "publisher":
        with options.work.open("rb") as file:
            asyncio.run(publisher(options.port, pickle.load(file), options.acks))
    else:
        cases = [
            asyncio.run(compare(devices, max(options.reports, devices), options.runs, options.profile))
            for devices in options.growth
        ]
        for case in cases:
            for name in ("paho", "gateway"):
                rates = case[name]
                say(f"{case['devices']:6} {name:8} {rates['per_s']:>8,}/s {rates['per_cpu_s']:>8,}/CPU-s")
        say(json.dumps(result_of(cases, options.runs)))


if __name__ == "__main__":
    main()
