"""Whether the books of a backend that was stopped agree with what happened.

Place in the flow: after ``site`` is stopped. Reads the database, the stored batches and the logs; asks
nothing that runs. Rule kept: what can be counted from the stored bytes is not taken from tables that were
derived from them.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from surge_backend.db.boots import BOOTS
from surge_backend.db.schema import ACTIVE, alarms, batches, devices, rejections
from surge_backend.invariants import check_all
from surge_backend.keys import read_log_key
from surge_backend.log import MerkleLog
from surge_backend.opening import opened_database
from surge_backend.settings import read_settings
from surge_cli.demo.outcome import rebuilds_the_same, verify_answers
from surge_cli.demo.parts import run_surge
from surge_host.errors import UserError
from surge_wire.batch import decode_batch, open_batch
from surge_wire.report import decode_report, open_report
from surge_wire.settlement import decode_settlement
from surge_wire.verdicts import ACCEPTED, DUPLICATE, NAMES

SHOWN_MAX = 5  # of each kind of violation

ReportName = tuple[str, int, int]  # device, boot, seq


@dataclass
class Books:
    """What was found; ``violations`` by check, empty where it held."""

    accepted: int = 0
    duplicates: int = 0
    acknowledged: int = 0
    batches: int = 0
    points: int = 0
    violations: dict[str, list[str]] = field(default_factory=dict)
    log_events: Counter[str] = field(default_factory=Counter)


async def judge(
    folder: Path,
    config: Path,
    sealed: Mapping[str, Iterable[tuple[int, int]]],
    acknowledged: Iterable[ReportName] = (),
    dishonest: frozenset[str] = frozenset(),
) -> Books:
    """``sealed``: of every board the (boot, seq) that it ever made, which must all be in the books.
    ``acknowledged``: what gateways said they have, of other devices. ``dishonest`` devices may be refused."""
    made = {(device, boot, seq) for device, names in sealed.items() for boot, seq in names}
    names = made | set(acknowledged)
    settings = read_settings(config)
    found = Books(acknowledged=len(names))
    log = MerkleLog(read_log_key(settings.storage.log_key_path).seed)
    with opened_database(settings) as database, database.read() as connection:
        found.violations.update(check_all(connection, log.verify, acknowledged=names))
        _, found.violations["every receipt verifies"] = verify_answers(connection, log.public_key)
        accepted, refused = _read_batches(connection, found)
        _compare(found, names, made, frozenset(sealed), accepted, refused, dishonest)
        found.violations["ends declared are ends made"] = _cut(_wrong_ends(connection, sealed))
        found.violations["nobody looks like a clone"] = _cut(_accused(connection, dishonest))
    backend = ("--config", str(config))
    export, keys = str(folder / "export"), str(folder / "export.keys")
    found.violations["surge backend check"] = await _surge_says(folder, "backend", "check", *backend)
    found.violations["surge export"] = await _surge_says(
        folder, "export", *backend, "--out", export, "--device-keys-out", keys
    )
    found.violations["surge verify"] = await _surge_says(
        folder, "verify", export, "--device-keys", keys, "--all"
    )
    found.points, found.violations["telemetry rebuilds the same"] = await asyncio.to_thread(
        rebuilds_the_same, settings, sorted({device for device, _, _ in accepted})
    )
    found.violations["logs without errors"] = _cut(_log_errors(folder, found.log_events))
    return found


def _cut(texts: Iterable[str]) -> list[str]:
    found = list(texts)
    more = len(found) - SHOWN_MAX
    return [*found[:SHOWN_MAX], f"and {more} more"] if more > 0 else found


def _read_batches(
    connection: Connection, found: Books
) -> tuple[Counter[ReportName], dict[ReportName, Counter[int]]]:
    """Every report of every stored batch with its verdict, from the bytes."""
    accepted: Counter[ReportName] = Counter()
    refused: dict[ReportName, Counter[int]] = {}
    rows = connection.execute(
        select(batches.c.envelope, batches.c.settlement).execution_options(yield_per=200)
    )
    for row in rows:
        found.batches += 1
        batch = decode_batch(open_batch(row.envelope)[1].payload)
        for envelope, code in zip(batch.reports, decode_settlement(row.settlement).verdicts(), strict=True):
            device_id, opened = open_report(envelope)
            report = decode_report(opened.payload)
            name = (device_id, report.boot, report.seq)
            if code == ACCEPTED:
                accepted[name] += 1
            else:
                refused.setdefault(name, Counter())[code] += 1
    found.accepted = accepted.total()
    found.duplicates = sum(codes[DUPLICATE] for codes in refused.values())
    return accepted, refused


def _compare(
    found: Books,
    names: set[ReportName],
    made: set[ReportName],
    boards: frozenset[str],
    accepted: Counter[ReportName],
    refused: Mapping[ReportName, Counter[int]],
    dishonest: frozenset[str],
) -> None:
    lost = sorted(name for name in names if name not in accepted and name not in refused)
    found.violations["acknowledged is accounted for"] = _cut(f"{_said(name)} is nowhere" for name in lost)
    twice = sorted(name for name, count in accepted.items() if count > 1)
    found.violations["accepted once"] = _cut(
        f"{_said(name)} was accepted {accepted[name]} times" for name in twice
    )
    unpaid = sorted(made - accepted.keys() - set(lost))
    found.violations["what boards made is accepted"] = _cut(
        f"{_said(name)} was refused as {_codes(refused[name])}" for name in unpaid
    )
    invented = sorted(name for name in accepted if name[0] in boards and name not in made)
    found.violations["only what boards made"] = _cut(f"{_said(name)} was never made" for name in invented)
    found.violations["honest devices are only refused duplicates"] = _cut(
        f"{_said(name)} was refused as {_codes(codes)}"
        for name, codes in sorted(refused.items())
        if name[0] not in dishonest and set(codes) != {DUPLICATE}
    )


def _wrong_ends(connection: Connection, sealed: Mapping[str, Iterable[tuple[int, int]]]) -> Iterator[str]:
    """What each boot declared of the one before it, against what was on that board's flash."""
    ends: Counter[tuple[str, int]] = Counter()
    for device, names in sealed.items():
        for boot, seq in names:
            ends[device, boot] = max(ends[device, boot], seq + 1)
    for row in connection.execute(select(BOOTS)):
        declared = row.previous_end
        if row.device_id in sealed and declared is not None:
            end = ends[row.device_id, row.boot - 1]
            if end != declared:
                yield f"{row.device_id} boot {row.boot} declared {declared}, the one before made {end}"


def _accused(connection: Connection, dishonest: frozenset[str]) -> Iterator[str]:
    for row in connection.execute(select(devices).where(devices.c.status != ACTIVE)):
        if row.id not in dishonest:
            yield f"{row.id} is {row.status}: {row.status_reason}"
    for row in connection.execute(select(alarms)):
        if row.subject not in dishonest:
            yield f"alarm {row.kind} about {row.subject}: {row.detail}"
    for row in connection.execute(select(rejections).where(rejections.c.code != DUPLICATE)):
        if row.device_id not in dishonest:
            yield f"{row.device_id} {row.boot}/{row.seq}: {NAMES[row.code]}: {row.detail}"


async def _surge_says(folder: Path, *arguments: str) -> list[str]:
    try:
        await run_surge(folder, *arguments)
    except UserError as error:
        return [f"{error.what}: {error.remedy}"]
    return []


# At level error, and what was done to them: a broker, a worker's supervisor; a worker says its exit code.
OF_A_KILL = frozenset({"broker_died", "supervisor_gone"})
KILLED = "status -9"


def _log_errors(folder: Path, events: "Counter[str]") -> Iterator[str]:
    for path in sorted(folder.glob("*.log")) + sorted(folder.glob("*/console.log")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if "Traceback" in line or "MemoryError" in line:
                yield f"{path.name}: {line[:400]}"
                continue
            entry = _entry(line)
            level, event = str(entry.get("level", "")), str(entry.get("event", ""))
            if level in ("warning", "error", "critical"):
                events[f"{level} {event}"] += 1
            killed = event in OF_A_KILL or KILLED in str(entry.get("what")) or entry.get("exit_code") == -9
            if level in ("error", "critical") and not killed:
                yield f"{path.name}: {line[:400]}"


def _entry(line: str) -> dict[str, Any]:
    """A line of a JSON log; empty for any other line."""
    if not line.startswith("{"):
        return {}
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _said(name: ReportName) -> str:
    return f"{name[0]} boot {name[1]} report {name[2]}"


def _codes(codes: Counter[int]) -> str:
    return ", ".join(NAMES[code] for code in sorted(codes))
