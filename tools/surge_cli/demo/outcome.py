"""What the demo came to: its figures, and whether each invariant of ARCHITECTURE.md held.

Place in the flow: ``take_down`` stops the network in the order of the flow and gathers evidence from the
outside; ``judge`` then opens the stopped backend's database and recomputes. Rules kept: an invariant that
could not be checked is false, with the reason; nothing is taken from the live view.
"""

import asyncio
import contextlib
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from surge_backend.audit.device_keys import report_keys
from surge_backend.audit.direct import verify_database
from surge_backend.audit.exporting import Source
from surge_backend.audit.verifying import Options
from surge_backend.db.engine import Database
from surge_backend.db.schema import batches
from surge_backend.invariants import check_all
from surge_backend.keys import read_log_key, read_master_key
from surge_backend.log import MerkleLog
from surge_backend.opening import opened_database
from surge_backend.rebuild import rebuild_telemetry
from surge_backend.settings import Settings, read_settings, store_settings
from surge_backend.telemetry.factory import open_store
from surge_backend.telemetry.store import QUERY_LIMIT_MAX, Sample, TelemetryQuery
from surge_backend.upkeep import wall_clock_ms
from surge_backend.verify.limits import DEFAULT_LIMITS
from surge_cli.demo.intruder import Intrusion, intrude
from surge_cli.demo.network import Network
from surge_wire.ed25519 import verifier
from surge_wire.errors import DecodeError
from surge_wire.submission import verify_submission

DAY_MS = 86_400_000
NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Evidence:
    """What the outside saw, after everything was stopped."""

    settings: Settings
    interpreter: str
    device_ids: tuple[str, ...]
    made: int
    acknowledged: tuple[tuple[str, int, int], ...]  # (device, boot, seq)
    stats: dict[str, Any]
    gateway: dict[str, Any]
    intrusion: Intrusion | None
    unended: tuple[str, ...]  # devices whose last words are missing


@dataclass(frozen=True)
class Outcome:
    """The demo's result; ``details`` says why an invariant is false."""

    devices: int
    interpreter: str
    reports_made: int
    reports_acknowledged: int
    reports_accepted: int
    reports_rejected: int
    telemetry_points: int
    credited_microcredits: int
    receipts_verified: int
    invariants: dict[str, bool]
    details: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether every invariant held."""
        return all(self.invariants.values())

    def as_json(self) -> dict[str, Any]:
        """The fields of the last line."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if not found["details"]:
            del found["details"]
        return found


async def take_down(network: Network) -> Evidence:
    """Stop the network in the order of the flow and gather what the parts say of themselves."""
    intrusion: Intrusion | None = None
    with contextlib.suppress(TimeoutError):
        intrusion = await intrude(network)
    await network.stop_devices()
    gateway = await network.gateway.status()
    await network.stop_gateway()
    stats = await network.settle()
    await network.stop_backend()
    interpreter = network.interpreter
    return Evidence(
        settings=read_settings(network.backend.config),
        interpreter=f"MicroPython {interpreter.version} ({interpreter.source})" if interpreter else "",
        device_ids=tuple(device.device_id for device in network.devices),
        made=sum(device.status.made for device in network.devices),
        acknowledged=tuple(
            (device.device_id, boot, seq)
            for device in network.devices
            for boot, seq in device.status.acknowledged_ids()
        ),
        stats=stats,
        gateway=gateway,
        intrusion=intrusion,
        unended=tuple(device.called for device in network.devices if not device.status.ended),
    )


def judge(evidence: Evidence) -> Outcome:
    """Recompute everything that can be recomputed from the stopped backend's data."""
    settings = evidence.settings
    log = MerkleLog(read_log_key(settings.storage.log_key_path).seed)
    found: dict[str, list[str]] = {}
    with opened_database(settings) as database, database.read() as connection:
        found.update(check_all(connection, log.verify, acknowledged=evidence.acknowledged))
        found["acknowledged_once"] = found["acknowledged_once"] + _unheard(evidence)
        verified, found["every_receipt_verifies"] = verify_answers(connection, log.public_key)
        found["an_auditor_agrees"] = audited(settings, database, log.public_key)
    points, found["telemetry_rebuilds_the_same"] = rebuilds_the_same(settings, evidence.device_ids)
    if lag := evidence.stats.get("telemetry_lag"):
        found["telemetry_rebuilds_the_same"] = [f"telemetry was still {lag} log entries behind"]
    found["devices_are_kept_apart"] = _not_contained(evidence)
    found["limits_hold"] = _over_limits(evidence)
    return Outcome(
        devices=len(evidence.device_ids),
        interpreter=evidence.interpreter,
        reports_made=evidence.made,
        reports_acknowledged=len(evidence.acknowledged),
        reports_accepted=evidence.stats["reports_accepted"],
        reports_rejected=evidence.stats["reports_rejected"],
        telemetry_points=points,
        credited_microcredits=evidence.stats["credited_microcredits"],
        receipts_verified=verified,
        invariants={name: not violations for name, violations in found.items()},
        details={name: "; ".join(violations)[:500] for name, violations in found.items() if violations},
    )


def verify_answers(connection: Connection, log_public_key: bytes) -> tuple[int, list[str]]:
    """Every stored answer, checked as a gateway checks it."""
    verify = verifier(log_public_key)
    bad = []
    count = 0
    for row in connection.execute(select(batches)):
        try:
            verify_submission(row.answer, row.hash, row.gateway_id, row.seq, row.report_count, verify)
            count += 1
        except DecodeError as error:
            bad.append(f"batch {row.log_index}: {error}")
    return count, bad


def audited(settings: Settings, database: Database, log_public_key: bytes) -> list[str]:
    """What `surge verify` says of an export with the devices' keys: every verdict and micro-credit again."""
    source = Source(database, log_public_key, wall_clock_ms, DEFAULT_LIMITS)
    keys = dict(report_keys(read_master_key(settings.storage.master_key_path), database))
    report = verify_database(source, Options(log_public_key, report_keys=keys))
    return [str(finding) for finding in report.findings]


def _unheard(evidence: Evidence) -> list[str]:
    """Why it isn't known what devices were told, or that there was nothing to show."""
    wrong = [f"{name} left without its last words" for name in evidence.unended]
    return wrong if evidence.acknowledged else [*wrong, "no report was acknowledged"]


def rebuilds_the_same(settings: Settings, device_ids: Iterable[str]) -> tuple[int, list[str]]:
    """Invariant 5, with the backend stopped: drop the telemetry, build it from the batches, compare every
    point. Also how many there were."""
    devices = tuple(device_ids)
    before, count = asyncio.run(_telemetry_digest(settings, devices))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        rebuild_telemetry(settings)
    after, count_after = asyncio.run(_telemetry_digest(settings, devices))
    if not count:
        return count, ["there were no points to compare"]
    if before != after:
        return count, [f"{count:,} points before, {count_after:,} after, or other values"]
    return count, []


async def _telemetry_digest(settings: Settings, device_ids: Iterable[str]) -> tuple[str, int]:
    """SHA-256 over every point of these devices in order, and how many there are."""
    digest = hashlib.sha256()
    count = 0
    store = await open_store(store_settings(settings))
    try:
        for device_id in sorted(device_ids):
            for sample in await _all_samples(store, device_id):
                digest.update(repr((device_id, sample)).encode())
                count += 1
    finally:
        await store.close()
    return digest.hexdigest(), count


async def _all_samples(store: Any, device_id: str) -> list[Sample]:
    """Every sample of a device of the last and the next day, page by page."""
    latest = await store.latest(device_id)
    if not latest:
        return []
    newest_ms = max(sample.time_ns for sample in latest) // NS_PER_MS
    start_ms, end_ms = newest_ms - DAY_MS, newest_ms + 1
    found: list[Sample] = []
    while True:
        page = await store.query(TelemetryQuery(device_id, start_ms, end_ms, None, QUERY_LIMIT_MAX))
        known = set(found[-len(page) :])  # a page begins in the millisecond in which the last one ended
        found += [sample for sample in page if sample not in known]
        if len(page) < QUERY_LIMIT_MAX:
            return found
        start_ms = page[-1].time_ns // NS_PER_MS


def _not_contained(evidence: Evidence) -> list[str]:
    """Invariant 6, tried on the running network, and nothing of it in the ledger's inputs."""
    intrusion = evidence.intrusion
    if intrusion is None:
        return ["the intruder's messages were neither refused nor delivered in time"]
    if not intrusion.contained:
        return [
            f"the broker let {intrusion.malformed} through, the gateway refused {intrusion.id_mismatch} of 1"
        ]
    return []


def _over_limits(evidence: Evidence) -> list[str]:
    """Invariant 7, as far as a running gateway shows it: nothing dropped, refused for room, or damaged."""
    gateway = evidence.gateway
    wrong = [
        f"{count} reports refused: {reason}"
        for reason, count in gateway["reports"]["refused"].items()
        if count and reason in ("over_quota", "spool_full", "spool_busy")
    ]
    if gateway["broker"]["acks_dropped"]:
        wrong.append(f"{gateway['broker']['acks_dropped']} acks dropped")
    if gateway["spool"]["failed_appends"] or gateway["spool"]["damaged_spans"]:
        wrong.append("the spool was damaged or refused writes")
    return wrong
