"""How many reports `surge verify` decides again in a second, from an export in memory.

    python tests/bench/verify_export.py [--reports 20000] [--runs 3] [--batch 500] [--devices 100]

The real ingest settles reports of 7 samples each on a database on disk; its whole export is verified: every
head, receipt, signature, chain, verdict, credit, transfer and row, with the devices' report keys (so MACs
too) and without. The yardstick is ``hmac.digest`` over each report's signed bytes and ``cbor2.loads`` of
its payload, bare, in the same process and in turns; the median of the runs is given, with the peak of the
memory that the verification itself allocated for each report. The last line is one JSON object; no time
limit is asserted.
"""

import argparse
import gc
import io
import json
import statistics
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

from backend_ingest import (
    DEVICES_PER_OWNER,
    NOW_MS,
    SEED,
    Load,
    Stopwatch,
    make_load,
    open_backend,
    run_bare,
    secret_of,
)

from surge_backend.audit import items
from surge_backend.audit.exporting import Source, export_parts
from surge_backend.audit.verifying import Options, verify_export
from surge_backend.db.engine import Database
from surge_backend.registry import events
from surge_backend.verify.limits import DEFAULT_LIMITS
from surge_wire import ed25519
from surge_wire.hkdf import INFO_REPORT, derive_key
from surge_wire.ids import OWNER, make_id


def record_events(database: Database, load: Load) -> None:
    """What enrolment would have written: the bench's rows are put in by hand."""
    count = 1 + (len(load.device_ids) - 1) // DEVICES_PER_OWNER
    owners = [make_id(OWNER, number.to_bytes(10, "big")) for number in range(count)]
    with database.write() as connection:
        for owner in owners:
            events.record_event(connection, events.OWNER_CREATED, owner, NOW_MS)
        detail: dict[int, Any] = {events.OWNER_ID: owners[0], events.PUBLIC_KEY: ed25519.public_key(SEED)}
        events.record_event(connection, events.GATEWAY_ENROLLED, load.gateway_id, NOW_MS, detail)
        for number, device_id in enumerate(load.device_ids):
            detail = {events.OWNER_ID: owners[number // DEVICES_PER_OWNER], events.GATEWAY_ID: None}
            events.record_event(connection, events.DEVICE_ENROLLED, device_id, NOW_MS, detail)


def make_export(load: Load, folder: Path) -> tuple[bytes, float]:
    """The export of a backend that settled the load, and the seconds that exporting took."""
    database, log, ingest = open_backend(folder / "surge.db", load)
    record_events(database, load)
    for envelope in load.batches:
        if ingest.submit(load.gateway_id, envelope, NOW_MS).settlement.rejections:
            raise SystemExit("reports were rejected")
    watch = Stopwatch()
    with watch:
        source = Source(database, log.public_key, lambda: NOW_MS, DEFAULT_LIMITS)
        data = b"".join(export_parts(source, items.FULL))
    database.close()
    return data, watch.wall_s


def verify(data: bytes, keys: dict[str, bytes] | None, reports: int) -> Stopwatch:
    """One verification, timed."""
    watch = Stopwatch()
    with watch:
        report = verify_export(io.BytesIO(data), Options(report_keys=keys))
    if not report.sound or report.checked["accepted"] != reports:
        raise SystemExit(f"the export doesn't verify: {report.findings}")
    return watch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--reports", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--devices", type=int, default=100)
    options = parser.parse_args()
    load = make_load(options.batch, options.devices, options.reports)
    keys = {
        device_id: derive_key(secret_of(number), INFO_REPORT)
        for number, device_id in enumerate(load.device_ids)
    }
    with tempfile.TemporaryDirectory() as folder:
        data, export_s = make_export(load, Path(folder))
    gc.collect()
    gc.freeze()
    with_keys, without, ratios, cpu_ratios, cpu_rates = [], [], [], [], []
    for _ in range(options.runs):
        bare = Stopwatch()
        with bare:
            for part in load.bare:
                run_bare(part)
        real = verify(data, keys, options.reports)
        with_keys.append(options.reports / real.wall_s)
        cpu_rates.append(options.reports / real.cpu_s)
        ratios.append(bare.wall_s / real.wall_s)
        cpu_ratios.append(bare.cpu_s / real.cpu_s)
        without.append(options.reports / verify(data, None, options.reports).wall_s)
    tracemalloc.start()
    verify(data, None, options.reports)
    peak = tracemalloc.get_traced_memory()[1]
    result = {
        "bench": "verify_export",
        "reports": options.reports,
        "batch": options.batch,
        "devices": options.devices,
        "export_bytes_per_report": round(len(data) / options.reports),
        "export_reports_per_s": round(options.reports / export_s),
        "verify_reports_per_s": round(statistics.median(with_keys)),
        "verify_reports_per_s_without_keys": round(statistics.median(without)),
        "verify_reports_per_cpu_s": round(statistics.median(cpu_rates)),
        "verify_ratio": round(statistics.median(ratios), 3),
        "verify_ratio_cpu": round(statistics.median(cpu_ratios), 3),
        "verify_peak_bytes_per_report": round(peak / options.reports),
        "spread": {"verify_reports_per_s": [round(min(with_keys)), round(max(with_keys))]},
    }
    print(
        f"{result['verify_reports_per_s']:,} reports/s with MACs"
        f" ({result['verify_ratio']} of bare, {result['verify_ratio_cpu']} by CPU time),"
        f" {result['verify_reports_per_s_without_keys']:,} without;"
        f" exporting {result['export_reports_per_s']:,}/s"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
