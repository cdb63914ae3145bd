"""How long it takes from the sealing of a report on a device to its credit, at 1,000 reports a second.

    python tests/bench/credit_latency.py [--devices 1000] [--interval-ms 1000] [--seconds 20]

A real broker, gateway and backend, each a process, with default settings (ports, folders and how often the
gateway looks for new devices apart), and ``surge simulate``'s devices in this process, none of which does
anything wrong. A report begins when its device seals it. It is credited when another process, which asks the
database (SQLite, read-only) every ``POLL_S``, sees the batch's transfer: not before the commit, and at most
that much after it. All on one machine's clock. Where the time goes is known from the batches themselves: a
report's time of receipt at the gateway, and the time at which its batch was closed.

Does not say anything about radio or a wide-area network. On two cores the devices and whatever else runs
take their share, which makes it longer. The last line is one JSON object; no time limit is asserted.
"""

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.synchronize
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(_ROOT / folder) for folder in ("protocol", "backend", "tools", "gateway")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:4])  # for the processes that are started

from surge_cli.simulate.fleet import Fleet  # noqa: E402
from surge_cli.simulate.journal import Journal, ReportName  # noqa: E402
from surge_cli.simulate.plan import Plan, Wrongs  # noqa: E402
from surge_cli.simulate.site import Site  # noqa: E402
from surge_wire.batch import decode_batch, open_batch  # noqa: E402
from surge_wire.report import decode_report, open_report  # noqa: E402
from surge_wire.settlement import decode_settlement  # noqa: E402
from surge_wire.verdicts import ACCEPTED  # noqa: E402

POLL_S = 0.005
WARM_UP_S = 5.0
SETTLE_TIMEOUT_S = 120.0
STAGES = ("device to gateway", "waiting for the batch", "submission, commit and being seen")


def watch(database: str, found: "multiprocessing.connection.Connection", stop: Any) -> None:
    """A process of its own: when each batch's transfer is first seen, as ``{log index: seconds}``."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    seen: dict[int, float] = {}
    last = -1
    while not stop.wait(POLL_S):
        new = connection.execute("SELECT log_index FROM transfers WHERE log_index > ?", (last,)).fetchall()
        now_s = time.time()
        for (log_index,) in new:
            seen[log_index] = now_s
            last = max(last, log_index)
    found.send(seen)


async def run(devices: int, interval_ms: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Load, and all that was measured of it."""
    sealed: dict[ReportName, float] = {}
    journal = Journal()

    def note(name: ReportName, _taken_ms: int) -> None:
        sealed[name] = time.time()

    journal.on_sealed = note
    site = Site(folder, lambda line: print(line, file=sys.stderr, flush=True), devices=devices)
    try:
        await site.start()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        stop = context.Event()
        database = str(site.backend.data_dir / "surge.db")
        watcher = context.Process(target=watch, args=(database, theirs, stop), daemon=True)
        watcher.start()
        plan = Plan(seed=1, devices=devices, wrongs=Wrongs())
        async with Fleet(site.identities, site.addresses, plan, journal, interval_ms=interval_ms) as fleet:
            await fleet.connect(timeout_s=site.ready_timeout_s)
            fleet.take_readings()
            await asyncio.sleep(WARM_UP_S)
            began_s = time.time()
            await asyncio.sleep(seconds)
            ended_s = time.time()
            left = await fleet.drain(timeout_s=SETTLE_TIMEOUT_S)
            await site.settle(SETTLE_TIMEOUT_S)
        stop.set()
        seen = await asyncio.to_thread(ours.recv)
        await asyncio.to_thread(watcher.join)
    finally:
        await site.stop()
    if left:
        raise SystemExit(f"{left} devices had reports that nobody acknowledged")
    wanted = {name: at_s for name, at_s in sealed.items() if began_s <= at_s < ended_s}
    return figures(wanted, stages_of(database, wanted, seen), ended_s - began_s, devices)


def stages_of(
    database: str, wanted: dict[ReportName, float], seen: dict[int, float]
) -> dict[ReportName, tuple[float, float, float]]:
    """Seconds that each of the ``wanted`` reports spent in each of STAGES."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    batches = {}
    query = "SELECT log_index, envelope, settlement FROM batches"
    for log_index, envelope, settlement in connection.execute(query):
        batches[log_index] = (decode_batch(open_batch(envelope)[1].payload), decode_settlement(settlement))
    found = {}
    for log_index, (batch, settlement) in batches.items():
        for position, code in enumerate(settlement.verdicts()):
            if code == ACCEPTED and log_index in seen:
                device_id, opened = open_report(batch.reports[position])
                report = decode_report(opened.payload)
                name = (device_id, report.boot, report.seq)
                if name in wanted:
                    received_s, closed_s = batch.received_ms[position] / 1000, batch.closed_ms / 1000
                    found[name] = (
                        received_s - wanted[name],
                        closed_s - received_s,
                        seen[log_index] - closed_s,
                    )
    return found


def figures(
    wanted: dict[ReportName, float],
    stages: dict[ReportName, tuple[float, float, float]],
    seconds: float,
    devices: int,
) -> dict[str, Any]:
    """The bench's JSON."""
    if len(stages) < len(wanted):
        raise SystemExit(f"{len(wanted) - len(stages)} of {len(wanted)} reports were never credited")
    totals = [sum(parts) for parts in stages.values()]
    p50, p99 = quantile(totals, 50), quantile(totals, 99)
    by_stage = {
        stage: {"p50_s": quantile(values, 50), "p99_s": quantile(values, 99)}
        for stage, values in zip(STAGES, zip(*stages.values(), strict=True), strict=True)
    }
    shown = "; ".join(
        f"{stage} {part['p50_s']:.3f} s ({part['p99_s']:.3f})" for stage, part in by_stage.items()
    )
    return {
        "credit_latency_p50_s": p50,
        "credit_latency_p99_s": p99,
        "longest_s": round(max(totals), 3),
        "reports": len(totals),
        "reports_per_s": round(len(totals) / seconds),
        "devices": devices,
        "stages": by_stage,
        "notes": [f"{len(totals) / seconds:,.0f} reports/s from {devices:,} devices; p50 (p99): {shown}"],
    }


def quantile(values: Sequence[float], percent: int) -> float:
    return round(statistics.quantiles(values, n=100)[percent - 1], 3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=1_000)
    parser.add_argument("--interval-ms", type=int, default=1_000, help="between a device's reports")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument(
        "--folder", type=Path, help="where databases and spools go; a temporary one by default"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        outcome = asyncio.run(run(options.devices, options.interval_ms, options.seconds, Path(folder)))
    for line in outcome["notes"]:
        print(line)
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
