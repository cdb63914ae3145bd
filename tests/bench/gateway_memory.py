"""How much memory one gateway process takes with 1,000 and with 10,000 devices connected.

    python tests/bench/gateway_memory.py [--devices 1000 10000] [--rounds 66]

A real `surge gateway` with its own nats-server and default settings, as a site starts it, and a test backend
that enrols the devices. All devices connect, then each reports ``--rounds`` times, in turn; every report is
acknowledged and has its receipt before memory is read: the gateway's resident set from /proc, the broker's
stated beside it, and the gateway's own peak. For each number of devices a gateway of its own. The last line
is one JSON object.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]
_ROOT = _TESTS.parent
_FOLDERS = [_ROOT / name for name in ("protocol", "gateway", "tools")]
_FOLDERS += [_TESTS / "unit" / "gateway" / "support", Path(__file__).parent]
sys.path[:0] = [str(folder) for folder in _FOLDERS]

import structlog  # noqa: E402
from fleet import HOST, Fleet  # noqa: E402
from gateway_reports import Device, make_device  # noqa: E402
from site_gateway import free_port, running_gateway  # noqa: E402

from surge_wire.senml import make_record  # noqa: E402

SIZES = (1_000, 10_000)
ROUNDS = 66  # more than a gateway remembers fingerprints of: memory grows no further with reports
WAVE_REPORTS = 2_000  # then acks are waited for: as fast as devices, not faster
PACK = (("cpu", "%", 12.5), ("memory_free", "B", 123_456_789), ("temperature", "Cel", 41.25))


def memory_mib(pid: int, field: str) -> float:
    """``VmRSS`` now, or ``VmHWM`` at most, of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return round(int(line.split()[1]) / 1024, 1)
    raise SystemExit(f"/proc/{pid}/status has no {field}")


def child_of(pid: int) -> int:
    """The gateway's broker: its only child."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if len(children) != 1:
        raise SystemExit(f"the gateway has {len(children)} children, not its broker alone")
    return int(children[0])


async def load(port: int, devices: list[Device], rounds: int) -> None:
    """Connect all, report in turn, tell our parent, and stay connected until it has read."""
    pack = [make_record(*record) for record in PACK]
    fleet = Fleet(device.device_id for device in devices)
    await fleet.open(port)
    sent = 0
    for _ in range(rounds):
        for connection, device in zip(fleet.connections, devices, strict=True):
            connection.publish(device.report(pack=pack))
            sent += 1
            if sent % WAVE_REPORTS == 0:
                await fleet.until_acknowledged(sent)
    count = await fleet.until_acknowledged(sent)
    sys.stdout.write(f"{count}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)


def measure(count: int, rounds: int) -> dict[str, Any]:
    ids = [make_device(seed).device_id for seed in range(count)]
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        sections = f'[broker]\nhost = "{HOST}"\nport = {port}\nfolder = "broker"\n'
        with running_gateway(Path(name), ids, broker="embedded", sections=sections) as site:
            pid = site.process.pid
            broker = child_of(pid)
            before = memory_mib(pid, "VmRSS")
            command = [sys.executable, __file__, "--port", str(port), "--rounds", str(rounds)]
            with subprocess.Popen(
                [*command, "--devices", str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as process:
                assert process.stdout is not None
                acknowledged = int(process.stdout.readline() or "0")
                if acknowledged != count * rounds:
                    process.kill()
                    raise SystemExit(f"{acknowledged} of {count * rounds} reports were acknowledged")
                site.wait_until_confirmed(acknowledged)
                found = {
                    "devices": count,
                    "rss_mib": memory_mib(pid, "VmRSS"),
                    "peak_mib": memory_mib(pid, "VmHWM"),
                    "before_connecting_mib": before,
                    "broker_rss_mib": memory_mib(broker, "VmRSS"),
                }
                process.communicate("read\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # stdout is for figures
    if options.port:
        devices = [make_device(seed) for seed in range(options.devices[0])]
        asyncio.run(load(options.port, devices, options.rounds))
        os._exit(0)  # ten thousand readers needn't be cancelled one by one
    cases = [measure(count, options.rounds) for count in options.devices]
    notes = [
        f"{case['devices']:,} devices: {case['rss_mib']} MiB, at most {case['peak_mib']}; before they"
        f" connected {case['before_connecting_mib']}; its nats-server {case['broker_rss_mib']} MiB"
        for case in cases
    ]
    for note in notes:
        print(note)
    rss = {str(case["devices"]): case["rss_mib"] for case in cases}
    print(json.dumps({"gateway_rss_mib": rss, "cases": cases, "notes": notes}))


if __name__ == "__main__":
    main()
