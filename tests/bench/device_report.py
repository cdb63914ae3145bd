"""What one report costs a device, in a real MicroPython with the firmware compiled as boards get it.

    python tests/bench/device_report.py [--rounds 200] [--runs 3] [--folder DIR]

A report is: the machine's resources read and made into SenML records, sealed under the device's key, written
to the outbox. The yardstick is SHA-256 of 4 KiB in the same process, in turns with the real thing: the ratio
is what counts, microseconds belong to the machine. The time is taken in a heap of 256 KiB, collections
included; the bytes in a large one, with the collector off. ``device_report_durable_us`` also waits for the
disk under DIR (fsync), as the device always does, and says more about that disk than about the firmware. Of
``--runs`` processes the median is given. The last line is one JSON object; no time limit is asserted.

What an ESP32 would take is an estimate, since no board was at hand. Pystone 1.2 (MicroPython's own
tests/perf_bench/misc_pystone.py), run in turns with this program in the same interpreter, made 227,000 to
256,000 passes a second, and one report cost as much as 240 to 270 of them; 140 of these were for sampling,
which on Linux is mostly reading files in /proc and on a board isn't. For an ESP32 at 240 MHz MicroPython's
issues 5673 and 6565 give 1,000 to 1,700 pystones a second, by build (a faulty one: 500). So 0.06 to 0.27 s a
report, and beside that the flash: programming it, and from time to time erasing a sector, which data sheets
put at some tens of milliseconds. What pystone doesn't have may be off by a factor of two: hashing (C code,
there as here), collections in a heap of 100 KiB, code that runs from cached flash.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(_ROOT / folder) for folder in ("protocol", "tools")]

from surge_cli.firmware_build import build_firmware  # noqa: E402
from surge_cli.micropython import Interpreter, find_micropython  # noqa: E402

PROGRAM = Path(__file__).parent / "on_device" / "report_cost.py"
PYSTONES_PER_REPORT = (100, 270)  # sealing and the outbox alone; with Linux's sampling
ESP32_PYSTONES_PER_S = (1_000, 1_700)
HEAPS = {"time": "256k", "durable": "256k", "bytes": "8m"}


def provision(folder: Path) -> Path:
    folder.mkdir()
    identity = {"device": "d" + "a" * 16, "secret": bytes(range(32)).hex()}
    (folder / "identity.json").write_text(json.dumps(identity))
    (folder / "floor.json").write_text(json.dumps({"boot": 0, "command": 0}))
    return folder


def measure(interpreter: Interpreter, firmware: Path, rounds: int, folder: Path) -> dict[str, Any]:
    """One run of each kind, each a process and a data directory of its own."""
    found: dict[str, Any] = {}
    for what, heap in HEAPS.items():
        data = provision(folder / what)
        done = subprocess.run(
            [*interpreter.argv, "-X", f"heapsize={heap}", str(PROGRAM), what, str(data), str(rounds)],
            env={**os.environ, "MICROPYPATH": f".frozen:{firmware}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"the measuring program ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        said = json.loads(done.stdout)
        if what == "durable":
            found["durable_us"] = said["report_us"]
        else:
            found |= said
    return {
        "device_report_us": round(found["report_us"]),
        "device_report_bytes_allocated": found["report_bytes"],
        "device_report_sha256_4kib_ratio": round(found["report_us"] / found["sha256_4kib_us"], 1),
        "of_it_sampling_us": round(found["sample_us"]),
        "of_it_sampling_bytes_allocated": found["sample_bytes"],
        "device_report_durable_us": round(found["durable_us"]),
        "sha256_4kib_us": round(found["sha256_4kib_us"], 1),
        "records": found["records"],
        "envelope_bytes": found["envelope_bytes"],
    }


def median_of(taken: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure."""
    return {name: statistics.median_low(run[name] for run in taken) for name in taken[0]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the outbox is; a temporary folder otherwise")
    options = parser.parse_args()
    interpreter = find_micropython()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        firmware = build_firmware(Path(name) / "firmware")
        taken = []
        for number in range(options.runs):
            folder = Path(name) / str(number)
            folder.mkdir()
            taken.append(measure(interpreter, firmware, options.rounds, folder))
    outcome = {"interpreter": f"MicroPython {interpreter.version}"} | median_of(taken)
    for name, value in outcome.items():
        print(f"{name:34} {value}")
    times = [run["device_report_us"] for run in taken]
    fastest_ms = PYSTONES_PER_REPORT[0] / ESP32_PYSTONES_PER_S[1] * 1000
    slowest_ms = PYSTONES_PER_REPORT[1] / ESP32_PYSTONES_PER_S[0] * 1000
    notes = [
        f"{outcome['device_report_sha256_4kib_ratio']} times SHA-256 of 4 KiB; an ESP32 at 240 MHz would take"
        f" about {fastest_ms:.0f} to {slowest_ms:.0f} ms and its flash: estimated by pystones, not measured"
        " (the bench's docstring says how)"
    ]
    spread = {"device_report_us": [min(times), max(times)]}
    print(json.dumps(outcome | {"runs": options.runs, "spread": spread, "notes": notes}))


if __name__ == "__main__":
    main()
