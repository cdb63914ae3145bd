"""What one report costs a device, in a real MicroPython with the firmware compiled as boards get it.

    python tests/bench/device_report.py [--rounds 100] [--folder DIR]

A report is: the machine's resources read and made into SenML records, sealed under the device's key, written
to the outbox. The yardstick is SHA-256 of 4 KiB in the same process, in turns with the real thing: the ratio
is what counts, microseconds belong to the machine. The time is taken in a heap of 256 KiB, collections
included; the bytes in a large one, with the collector off. ``device_report_durable_us`` also waits for the
disk under DIR (fsync), as the device always does, and says more about that disk than about the firmware. The
last line is one JSON object; no time limit is asserted.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(_ROOT / folder) for folder in ("protocol", "tools")]

from surge_cli.firmware_build import build_firmware  # noqa: E402
from surge_cli.micropython import find_micropython  # noqa: E402

PROGRAM = Path(__file__).parent / "on_device" / "report_cost.py"
HEAPS = {"time": "256k", "durable": "256k", "bytes": "8m"}


def provision(folder: Path) -> Path:
    folder.mkdir()
    identity = {"device": "d" + "a" * 16, "secret": bytes(range(32)).hex()}
    (folder / "identity.json").write_text(json.dumps(identity))
    (folder / "floor.json").write_text(json.dumps({"boot": 0, "command": 0}))
    return folder


def measure(rounds: int, folder: Path) -> dict[str, Any]:
    interpreter = find_micropython()
    firmware = build_firmware(folder / "firmware")
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
        "interpreter": f"MicroPython {interpreter.version}",
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the outbox is; a temporary folder otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        outcome = measure(options.rounds, Path(folder))
    for name, value in outcome.items():
        print(f"{name:34} {value}")
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
