"""How long it takes from the sealing of a report on a device to its credit, at 1,000 reports a second, and
how long while other devices flood.

    python tests/bench/credit_latency.py [--devices 1000] [--interval-ms 1000] [--seconds 20] [--flooders 10]

A real broker, gateway and backend, each a process, with default settings (ports, folders and how often the
gateway looks for new devices apart), and ``surge simulate``'s devices in this process, none of which does
anything wrong. A report begins when its device seals it. It is credited when another process, which asks the
database (SQLite, read-only) every ``POLL_S``, sees the batch's transfer: not before the commit, and at most
that much after it. All on one machine's clock. Where the time goes is known from the batches themselves: a
report's time of receipt at the gateway, and the time at which its batch was closed.

Then the same for as long again, beside devices that publish rubbish and replays as fast as the broker takes
them (``flood``, a process of its own): the same honest devices at the same pace, and only they are measured.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(_ROOT / folder) for folder in ("protocol", "backend", "tools", "gateway")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:4])  # for the processes that are started

from flood import flood  # noqa: E402

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


@dataclass(frozen=True)
class Phase:
    """When reports were sealed that count for it."""

    began_s: float
    ended_s: float

    @classmethod
    async def lasting(cls, seconds: float) -> "Phase":
        """From WARM_UP_S from now on, for so long."""
        await asyncio.sleep(WARM_UP_S)
        began_s = time.time()
        await asyncio.sleep(seconds)
        return cls(began_s, time.time())

    def of(self, sealed: dict[ReportName, float]) -> dict[ReportName, float]:
        return {name: at_s for name, at_s in sealed.items() if self.began_s <= at_s < self.ended_s}


@dataclass(frozen=True)
class Flood:
    """What became of one. ``published`` also counts what was on its way when it ended."""

    phase: Phase
    published: int
    received: int
    refused: dict[str, int]


async def run(devices: int, interval_ms: int, seconds: float, flooders: int, folder: Path) -> dict[str, Any]:
    """Load, and all that was measured of it."""
    sealed: dict[ReportName, float] = {}
    journal = Journal()

    def note(name: ReportName, _taken_ms: int) -> None:
        sealed[name] = time.time()

    journal.on_sealed = note
    everybody = devices + flooders
    site = Site(folder, lambda line: print(line, file=sys.stderr, flush=True), devices=everybody)
    try:
        await site.start()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        stop = context.Event()
        database = str(site.backend.data_dir / "surge.db")
        watcher = context.Process(target=watch, args=(database, theirs, stop), daemon=True)
        watcher.start()
        plan = Plan(seed=1, devices=devices, wrongs=Wrongs())
        honest = site.identities[:devices]
        async with Fleet(honest, site.addresses, plan, journal, interval_ms=interval_ms) as fleet:
            await fleet.connect(timeout_s=site.ready_timeout_s)
            fleet.take_readings()
            calm = await Phase.lasting(seconds)
            flooded = await beside_a_flood(site, devices, seconds) if flooders else None
            left = await fleet.drain(timeout_s=SETTLE_TIMEOUT_S)
            await site.settle(SETTLE_TIMEOUT_S)
        stop.set()
        seen = await asyncio.to_thread(ours.recv)
        await asyncio.to_thread(watcher.join)
    finally:
        await site.stop()
    if left:
        raise SystemExit(f"{left} devices had reports that nobody acknowledged")
    credited = stages_of(database, sealed, seen)
    found = figures(calm, sealed, credited, devices)
    if flooded is not None:
        found = with_flood(found, figures(flooded.phase, sealed, credited, devices), flooded, flooders)
    return found


async def beside_a_flood(site: Site, devices: int, seconds: float) -> Flood:
    """The honest go on, and every device from number ``devices`` on floods."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    stop = context.Event()
    before = (await site.gateway_statuses())[0]["reports"]
    arguments = (site.identities[devices:], site.addresses[0], stop, theirs)
    flooding = context.Process(target=flood, args=arguments, daemon=True)
    flooding.start()
    theirs.close()  # so that its end shows, however it comes
    phase = await Phase.lasting(seconds)
    after = (await site.gateway_statuses())[0]["reports"]
    stop.set()
    published = await asyncio.to_thread(ours.recv)
    await asyncio.to_thread(flooding.join)
    if not isinstance(published, int):
        raise SystemExit(f"the flood ended by itself: {published}")
    refused = {
        reason: count - before["refused"].get(reason, 0)
        for reason, count in after["refused"].items()
        if count > before["refused"].get(reason, 0)
    }
    return Flood(phase, published, after["received"] - before["received"], refused)


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
    phase: Phase,
    sealed: dict[ReportName, float],
    credited: dict[ReportName, tuple[float, float, float]],
    devices: int,
) -> dict[str, Any]:
    """The bench's JSON, of the reports that were sealed in ``phase``."""
    wanted = phase.of(sealed)
    stages = {name: credited[name] for name in wanted if name in credited}
    if len(stages) < len(wanted):
        raise SystemExit(f"{len(wanted) - len(stages)} of {len(wanted)} reports were never credited")
    totals = [sum(parts) for parts in stages.values()]
    seconds = phase.ended_s - phase.began_s
    by_stage = {
        stage: {"p50_s": quantile(values, 50), "p99_s": quantile(values, 99)}
        for stage, values in zip(STAGES, zip(*stages.values(), strict=True), strict=True)
    }
    shown = "; ".join(
        f"{stage} {part['p50_s']:.3f} s ({part['p99_s']:.3f})" for stage, part in by_stage.items()
    )
    return {
        "credit_latency_p50_s": quantile(totals, 50),
        "credit_latency_p99_s": quantile(totals, 99),
        "longest_s": round(max(totals), 3),
        "reports": len(totals),
        "reports_per_s": round(len(totals) / seconds),
        "devices": devices,
        "stages": by_stage,
        "notes": [f"{len(totals) / seconds:,.0f} reports/s from {devices:,} devices; p50 (p99): {shown}"],
    }


def with_flood(calm: dict[str, Any], under: dict[str, Any], flooded: Flood, flooders: int) -> dict[str, Any]:
    """The JSON of the calm phase, with that of the flooded one beside it."""
    p50, p99 = under["credit_latency_p50_s"], under["credit_latency_p99_s"]
    ratios = p50 / calm["credit_latency_p50_s"], p99 / calm["credit_latency_p99_s"]
    seconds = WARM_UP_S + flooded.phase.ended_s - flooded.phase.began_s
    over_quota = flooded.refused.get("over_quota", 0)
    notes = [
        f"beside {flooders} devices that flood: p50 {p50:.3f} s, {ratios[0]:.2f} times that of the calm;"
        f" p99 {p99:.3f} s, {ratios[1]:.2f} times; honest devices only: {under['notes'][0]}",
        f"the flood: {flooded.published / seconds:,.0f} messages/s published; the gateway read"
        f" {flooded.received:,} messages, the honest ones included, and refused {over_quota:,} over quota",
    ]
    return calm | {
        "credit_latency_flood_p50_s": p50,
        "credit_latency_flood_p99_s": p99,
        "flood": {
            "devices": flooders,
            "published": flooded.published,
            "received_by_gateway": flooded.received,
            "refused": flooded.refused,
            "over_quota": over_quota,
            "p50_ratio": round(ratios[0], 2),
            "p99_ratio": round(ratios[1], 2),
            **{name: under[name] for name in ("longest_s", "reports", "reports_per_s", "stages")},
        },
        "notes": calm["notes"] + notes,
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
    parser.add_argument("--flooders", type=int, default=10, help="devices that flood; 0: no second phase")
    parser.add_argument(
        "--folder", type=Path, help="where databases and spools go; a temporary one by default"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        outcome = asyncio.run(
            run(options.devices, options.interval_ms, options.seconds, options.flooders, Path(folder))
        )
    for line in outcome["notes"]:
        print(line)
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
