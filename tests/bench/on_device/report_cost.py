"""What one report costs, run by MicroPython: ``report_cost.py time|durable|bytes DATA_DIR ROUNDS``.

Makes the same ``App`` as a board's main.py, doesn't start its tasks, and takes readings with its own parts:
sample (the meter's resources as SenML records), seal, store. Acks go in between, outside of what is measured.
Prints a JSON object. ``time``: microseconds in the best round (the others measure who else is on the
machine), in turns with the yardstick, SHA-256 of 4 KiB; written, and not waited for until the disk has it.
``durable``: the same, waited for, as devices do. ``bytes``: bytes allocated, counted with the collector off,
which takes a large heap.
"""

import gc
import hashlib
import json
import sys
import time

gc.threshold(8192)  # as in main.py

from boards.linux.board import Board  # noqa: E402
from surge_device.app import App  # noqa: E402
from surge_wire.senml import make_record  # noqa: E402

READINGS = 8  # per round; the window holds 16
YARDSTICK = bytes(4096)
YARDSTICK_TIMES = 100


class Hasty(Board):
    def sync(self, file):
        pass


def sample(app):
    return [make_record(*record) for record in app.meter.sample()]


def median(values):
    return sorted(values)[len(values) // 2]


def spent_us(work, times):
    started = time.ticks_us()
    for _ in range(times):
        work()
    return time.ticks_diff(time.ticks_us(), started) / times


def measure_time(app, rounds):
    spent = {"sample": [], "report": [], "sha256_4kib": []}
    for _ in range(rounds):
        spent["sha256_4kib"].append(spent_us(lambda: hashlib.sha256(YARDSTICK).digest(), YARDSTICK_TIMES))
        spent["sample"].append(spent_us(lambda: sample(app), READINGS))
        spent["report"].append(spent_us(lambda: app.sealer.add_reading(sample(app)), READINGS))
        app.outbox.ack(app.boot, [[0, app.sealer.seq]])
    return {name + "_us": min(values) for name, values in spent.items()}


def measure_bytes(app, rounds):
    counts = {"sample": [], "report": []}
    for _ in range(rounds):
        for name, work in (
            ("sample", lambda: sample(app)),
            ("report", lambda: app.sealer.add_reading(sample(app))),
        ):
            gc.collect()
            gc.disable()
            before = gc.mem_alloc()
            for _ in range(READINGS):
                work()
            counts[name].append((gc.mem_alloc() - before) // READINGS)
            gc.enable()
        app.outbox.ack(app.boot, [[0, app.sealer.seq]])
    return {name + "_bytes": median(values) for name, values in counts.items()}


def main():
    what, data_dir, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    app = App(Hasty if what == "time" else Board, data_dir, lambda line: None)
    found = (measure_bytes if what == "bytes" else measure_time)(app, rounds)
    (envelope,) = [envelope for _, _, envelope in last_report(app)]
    found["envelope_bytes"] = len(envelope)
    found["records"] = len(sample(app))
    print(json.dumps(found))


def last_report(app):
    app.sealer.add_reading(sample(app))
    return list(app.outbox.unacked())


main()
