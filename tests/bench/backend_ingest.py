"""How many reports one backend process verifies, stores and credits in a second, on a real database on disk.

    python tests/bench/backend_ingest.py [--reports 10000] [--runs 3] [--folder DIR] [--only 500x100]
                                         [--stored 1000000]

For batches of 2,000 reports of 7 samples each, as a gateway closes them under load, from 1, 100, 1,000 and
10,000 devices (ten devices to an owner), and for batches of 500, into SQLite with synchronous=FULL. Each
device has been heard of before; with --stored the database has that many reports already. The yardstick is
what can't be left out: ``hmac.digest`` over each report's signed bytes and ``cbor2.loads`` of its payload,
bare, in the same process, batch by batch in turns with the real thing; the median of the runs is given. The
ratio is what counts; figures in reports a second belong to the machine. Wall time includes the disk, CPU time
doesn't. The last line is one JSON object; no time limit is asserted.
"""

import argparse
import hmac
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(_ROOT / folder) for folder in ("protocol", "backend", "tools")]

import cbor2  # noqa: E402
from sqlalchemy import func, insert, select  # noqa: E402

from surge_backend.collector import tune_collector  # noqa: E402
from surge_backend.db import migrations  # noqa: E402
from surge_backend.db.bulk import insert_rows  # noqa: E402
from surge_backend.db.engine import Database, open_engine  # noqa: E402
from surge_backend.db.schema import accepted_runs, device_totals, devices, gateways, owners  # noqa: E402
from surge_backend.ingest import Ingest  # noqa: E402
from surge_backend.ingest.places import RECENT_MAX, RUN_COLUMNS, encode_places, make_runs  # noqa: E402
from surge_backend.invariants import check_all  # noqa: E402
from surge_backend.ledger.posting import open_issuance  # noqa: E402
from surge_backend.ledger.tariffs import ensure_first_tariff  # noqa: E402
from surge_backend.log import MerkleLog  # noqa: E402
from surge_backend.verify.history import DeviceHistory  # noqa: E402
from surge_wire import ed25519  # noqa: E402
from surge_wire.batch import FIRST_PREVIOUS, Batch, chain_hash, encode_batch, seal_batch  # noqa: E402
from surge_wire.hkdf import INFO_REPORT, derive_key  # noqa: E402
from surge_wire.ids import DEVICE, GATEWAY, OWNER, make_id  # noqa: E402
from surge_wire.report import Report, Usage, open_report, seal_report  # noqa: E402
from surge_wire.senml import make_record  # noqa: E402

NOW_MS = 1_750_000_000_000
DEVICES_PER_OWNER = 10
USAGE_EVERY = 10  # every tenth report carries the device's own counters
SEED = bytes(range(32))
FIRST_BATCH = 2_000  # a gateway's default
GROWTH = (100, 1_000, 10_000)  # devices


@dataclass
class Load:
    """Batches to submit, and the same reports for the yardstick: ``(key, signed bytes, payload)``."""

    gateway_id: str
    batches: list[bytes]
    bare: list[list[tuple[bytes, bytes, bytes]]]  # by batch
    device_ids: list[str]


def secret_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def make_load(batch_len: int, device_count: int, report_count: int, first_seq: int = 0) -> Load:
    """Devices take turns; a gateway's batches hold their reports as they come."""
    ids = [make_id(DEVICE, number.to_bytes(10, "big")) for number in range(device_count)]
    keys = [derive_key(secret_of(number), INFO_REPORT) for number in range(device_count)]
    envelopes = []
    bare = []
    for number in range(report_count):
        which, seq = number % device_count, first_seq + number // device_count
        pack = [
            make_record("cpu/load", "/", 0.25 + seq % 7 / 16),
            make_record("mem/free", "B", 81_920 + number % 4_096),
            make_record("flash/free", "B", 1_048_576),
            make_record("uptime", "s", seq * 10),
            make_record("temp/chip", "Cel", 41.5),
            make_record("wifi/rssi", "dBW", -93.5),
            make_record("net/sent", "B", number * 180),
        ]
        usage = Usage(seq, seq * 7, seq * 200, 0) if (which + seq) % USAGE_EVERY == 0 else None
        report = Report(1, seq, seq * 10_000, NOW_MS + number, pack, usage)
        envelope = seal_report(ids[which], keys[which], report)
        opened = open_report(envelope)[1]
        envelopes.append(envelope)
        bare.append((keys[which], opened.signed, opened.payload))
    gateway_id = make_id(GATEWAY, bytes(10))
    sign = ed25519.signer(SEED)
    batches = []
    previous = FIRST_PREVIOUS
    for seq, start in enumerate(range(0, report_count, batch_len)):
        part = envelopes[start : start + batch_len]
        payload = encode_batch(Batch(seq, previous, NOW_MS, part, [NOW_MS] * len(part)))
        previous = chain_hash(payload)
        batches.append(seal_batch(gateway_id, sign, payload))
    parts = [bare[start : start + batch_len] for start in range(0, report_count, batch_len)]
    return Load(gateway_id, batches, parts, ids)


def open_backend(path: Path, load: Load) -> tuple[Database, MerkleLog, Ingest]:
    """A fresh backend that knows the load's devices."""
    database = open_engine(str(path))
    migrations.upgrade(database)
    log = MerkleLog(SEED)
    with database.write() as connection:
        log.open(connection, NOW_MS)
        ensure_first_tariff(connection, NOW_MS)
        owner_ids = [
            make_id(OWNER, number.to_bytes(10, "big"))
            for number in range(1 + (len(load.device_ids) - 1) // DEVICES_PER_OWNER)
        ]
        connection.execute(insert(owners), [{"id": o, "name": "", "created_ms": 0} for o in owner_ids])
        open_issuance(connection)
        connection.execute(
            insert(gateways).values(
                id=load.gateway_id,
                owner_id=owner_ids[0],
                name="",
                public_key=ed25519.public_key(SEED),
                status="active",
                chain_hash=FIRST_PREVIOUS,
                created_ms=0,
            )
        )
        rows = [
            {
                "id": device_id,
                "owner_id": owner_ids[number // DEVICES_PER_OWNER],
                "name": "",
                "board": "",
                "secret_sealed": secret_of(number),
                "mqtt_bcrypt": "",
                "mqtt_pbkdf2_sha512": "",
                "status": "active",
                "revision": number + 1,
                "created_ms": 0,
            }
            for number, device_id in enumerate(load.device_ids)
        ]
        connection.execute(insert(devices), rows)
    return database, log, Ingest(database, log, lambda _, sealed: sealed)


class Stopwatch:
    """Sums wall and CPU time of many stretches."""

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall_s += time.perf_counter() - self._wall
        self.cpu_s += time.process_time() - self._cpu


def run_bare(part: list[tuple[bytes, bytes, bytes]]) -> None:
    digest, loads = hmac.digest, cbor2.loads
    for key, signed, payload in part:
        digest(key, signed, "sha256")
        loads(payload)


def store_before(database: Database, load: Load, reports_each: int) -> None:
    """Rows as if every device had sent so many reports already, one in each batch."""
    totals, runs = [], []
    for number, device_id in enumerate(load.device_ids):
        places = [(seq, 0, 7, 230) for seq in range(reports_each)]
        cut = reports_each - number % RECENT_MAX
        for first in range(0, cut, RECENT_MAX):
            part = places[first : min(first + RECENT_MAX, cut)]
            runs += make_runs(device_id, 1, encode_places(first, part))
        history = DeviceHistory(device_id)
        for place in places:
            history.count(1, place, NOW_MS, 1)
        totals.append(
            {
                name: getattr(history, name)
                for name in device_totals.columns.keys()  # noqa: SIM118
                if name not in ("gaps", "recent")
            }
            | {"recent": encode_places(cut, places[cut:])}
        )
    with database.write() as connection:
        connection.execute(insert(device_totals), totals)
        insert_rows(connection, accepted_runs, RUN_COLUMNS, runs)


def measure(
    batch_len: int, device_count: int, report_count: int, runs: int, folder: Path, stored: int
) -> dict[str, Any]:
    stored_each = stored // device_count
    warm_up = -(-max(device_count, batch_len) // batch_len)  # batches, so that each device has been heard of
    load = make_load(batch_len, device_count, report_count + warm_up * batch_len, stored_each)
    tune_collector()  # as a backend does; the load is no part of it, and isn't walked
    ratios, cpu_ratios, rates, bare_rates = [], [], [], []
    for run in range(runs):
        database, log, ingest = open_backend(folder / f"{batch_len}-{device_count}-{run}.db", load)
        if stored_each:
            store_before(database, load, stored_each)
        for envelope in load.batches[:warm_up]:
            ingest.submit(load.gateway_id, envelope, NOW_MS)
        bare, real = Stopwatch(), Stopwatch()
        # In turns, batch by batch: whatever else the machine does slows both.
        for envelope, part in zip(load.batches[warm_up:], load.bare[warm_up:], strict=True):
            with bare:
                run_bare(part)
            with real:
                settlement = ingest.submit(load.gateway_id, envelope, NOW_MS).settlement
            if settlement.rejections:
                raise SystemExit(f"reports were rejected: {settlement.rejections[:3]}")
        with database.read() as connection:
            expected = report_count + warm_up * batch_len + stored_each * device_count
            if connection.execute(select(func.sum(device_totals.c.reports))).scalar() != expected:
                raise SystemExit("not every report was stored")
            broken = {name: bad for name, bad in check_all(connection, log.verify).items() if bad}
            if stored:
                del broken["acknowledged_once"]  # of the batches that were not really there
            if broken:
                raise SystemExit(f"invariants are broken: {broken}")
        database.close()
        ratios.append(bare.wall_s / real.wall_s)
        cpu_ratios.append(bare.cpu_s / real.cpu_s)
        rates.append(report_count / real.wall_s)
        bare_rates.append(report_count / bare.wall_s)
    return {
        "batch": batch_len,
        "devices": device_count,
        "stored": stored_each * device_count,
        "envelope_bytes": round(statistics.mean(map(len, load.batches)) / batch_len),
        "bare_per_s": round(statistics.median(bare_rates)),
        "ingest_per_s": round(statistics.median(rates)),
        "ratio": round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "ratio_cpu": round(statistics.median(cpu_ratios), 3),
    }


def result_of(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The bench's JSON: `backend_ratio` is that of a gateway's own batches from the fewest of GROWTH."""
    growth = {
        str(one["devices"]): one
        for one in results
        if one["batch"] == FIRST_BATCH and one["devices"] in GROWTH
    } or {str(one["devices"]): one for one in results}
    first = next(iter(growth.values()))
    return {
        "backend_ratio": first["ratio"],
        "backend_ratio_by_devices": {size: one["ratio"] for size, one in growth.items()},
        "spread": {
            "backend_ratio": first["spread"],
            "backend_ratio_by_devices": {size: one["spread"] for size, one in growth.items()},
        },
        "ratio_min": min(one["ratio"] for one in results),
        "cases": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--reports", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the databases go (a temporary folder by default)")
    parser.add_argument("--only", help="BATCHxDEVICES, such as 500x100")
    parser.add_argument("--stored", type=int, default=0, help="reports in the database before it begins")
    options = parser.parse_args()
    cases = [*((FIRST_BATCH, count) for count in (1, *GROWTH)), *((500, count) for count in GROWTH[1:])]
    if options.only:
        batch, count = options.only.split("x")
        cases = [(int(batch), int(count))]
    results = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for batch, count in cases:
            result = measure(batch, count, options.reports, options.runs, Path(folder), options.stored)
            results.append(result)
            print(
                f"batches of {batch:5}, {count:5} devices: {result['ingest_per_s']:7} reports/s,"
                f" bare {result['bare_per_s']:7},"
                f" ratio {result['ratio']:.3f} (CPU {result['ratio_cpu']:.3f})",
                flush=True,
            )
    print(json.dumps(result_of(results)))


if __name__ == "__main__":
    main()
