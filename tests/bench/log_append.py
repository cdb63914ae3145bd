"""How many leaves one backend process appends to the public log in a second, each on disk before the next.

    python tests/bench/log_append.py [--leaves 2000] [--runs 5] [--folder DIR]

A leaf is appended as in the backend: its settlement, its nodes, a signed head, a signed receipt, one commit
of SQLite with synchronous=FULL for each. Beside it, in turns of 100 in the same run: what the disk takes at
best (a commit of one small row; an fsync after 100 bytes are appended to a file), and what a whole batch of
one report takes through ingest: opened, its signature checked, verified, stored, paid, answered.
``log_append_per_s`` is the first of these, the median of the runs. No time limit is asserted; the last line
is one JSON object.
"""

import argparse
import json
import os
import sqlite3
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from backend_ingest import NOW_MS, Load, Stopwatch, make_load, open_backend

from surge_backend.collector import tune_collector
from surge_backend.db.bulk import insert_rows
from surge_backend.db.engine import Database
from surge_backend.db.schema import batches
from surge_backend.log import MerkleLog

TURN: Final = 100  # leaves, batches, commits, fsyncs, one kind after the other
ENTRY: Final = bytes(180)  # about a settlement of one report

COLUMNS: Final = (
    "log_index",
    "hash",
    "gateway_id",
    "seq",
    "received_ms",
    "envelope",
    "settlement",
    "answer",
    "report_count",
    "accepted_count",
    "sample_count",
)

Step = Callable[[], None]


def appends(folder: Path, load: Load) -> Iterator[Step]:
    """Appends one leaf."""
    database, log, _ = open_backend(folder / "log.db", load)

    def step() -> None:
        with database.write() as connection:
            appended = log.append(connection, ENTRY, NOW_MS)
            index = appended.index
            settled = (index, index.to_bytes(32, "big"), load.gateway_id, index, NOW_MS, b"", ENTRY)
            insert_rows(connection, batches, COLUMNS, [(*settled, appended.receipt, 0, 0, 0)])
        log.confirm(appended)

    yield step
    check(database, log)
    database.close()


def check(database: Database, log: MerkleLog) -> None:
    """Nothing is measured that isn't there and right."""
    with database.read() as connection:
        log.check(connection)


def submissions(folder: Path, load: Load) -> Iterator[Step]:
    """Submits one batch of one report."""
    database, log, ingest = open_backend(folder / "backend.db", load)
    remaining = iter(load.batches)

    def step() -> None:
        if not ingest.submit(load.gateway_id, next(remaining), NOW_MS).is_new:
            raise SystemExit("a batch was not new")

    yield step
    check(database, log)
    database.close()


def commits(folder: Path) -> Iterator[Step]:
    """Commits one small row."""
    with closing(sqlite3.connect(folder / "rows.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE leaves (idx INTEGER PRIMARY KEY, entry BLOB)")

        def step() -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO leaves (entry) VALUES (?)", (ENTRY,))
            connection.execute("COMMIT")

        yield step


def fsyncs(folder: Path) -> Iterator[Step]:
    """Appends to a file."""
    with (folder / "file").open("wb", buffering=0) as file:

        def step() -> None:
            file.write(ENTRY[:100])
            os.fsync(file.fileno())

        yield step


def measure(leaves: int, load: Load, folder: Path) -> dict[str, float]:
    """How many of each in a second."""
    kinds = {
        "log_append_per_s": appends(folder, load),
        "batches_of_one_per_s": submissions(folder, load),
        "commits_per_s": commits(folder),
        "fsyncs_per_s": fsyncs(folder),
    }
    steps = {name: next(kind) for name, kind in kinds.items()}
    watches = {name: Stopwatch() for name in kinds}
    for _ in range(leaves // TURN):
        for name, step in steps.items():
            with watches[name]:
                for _ in range(TURN):
                    step()
    for kind in kinds.values():
        next(kind, None)  # checks and closes
    return {name: leaves / watch.wall_s for name, watch in watches.items()} | {
        "cpu_us": watches["log_append_per_s"].cpu_s / leaves * 1e6,
        "batch_cpu_us": watches["batches_of_one_per_s"].cpu_s / leaves * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--leaves", type=int, default=2_000, help=f"of each run, in steps of {TURN}")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the databases go (a temporary folder by default)")
    options = parser.parse_args()
    leaves = max(TURN, options.leaves // TURN * TURN)
    load = make_load(1, 1, leaves)
    tune_collector()
    runs: list[dict[str, float]] = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            runs.append(measure(leaves, load, Path(folder)))
    result: dict[str, Any] = {name: round(statistics.median(run[name] for run in runs)) for name in runs[0]}
    appended = [run["log_append_per_s"] for run in runs]
    result["ratio_to_commits"] = round(
        statistics.median(run["log_append_per_s"] / run["commits_per_s"] for run in runs), 3
    )
    result["spread"] = {"log_append_per_s": [round(min(appended)), round(max(appended))]}
    print(
        f"{result['log_append_per_s']:,} leaves/s ({result['cpu_us']} us of CPU time each);"
        f" {result['batches_of_one_per_s']:,} batches of one report/s ({result['batch_cpu_us']} us);"
        f" the disk takes {result['commits_per_s']:,} commits of SQLite, {result['fsyncs_per_s']:,} fsyncs"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
