"""What must have become of everything hostile that was really done.

Place in the flow: part of the books. Reads the journal's counts of deeds, the backend's records and the
gateways' counters. Rule kept: what was not done claims nothing, so a short run claims less; what was done
and left no trace where it should is a violation.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from surge_backend.projection.times import TIME_FUTURE_MS_MAX
from surge_backend.settings import Settings, store_settings
from surge_backend.telemetry.factory import open_store
from surge_backend.telemetry.points import TIME_FROM_GATEWAY, TIME_SKEWED
from surge_cli.simulate.clocks import DAY_MS, Skew
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.plan import Plan, Role
from surge_wire.verdicts import BAD_MAC, EQUIVOCATION, FORKED_HISTORY, MALFORMED

if TYPE_CHECKING:
    from surge_cli.simulate.books import Record

SKEWED_CHECKED_MAX = 50  # devices whose telemetry is looked at
NS_PER_MS = 1_000_000
RUN_MS_MAX = 7 * DAY_MS  # longer ago than any simulation began
_FROZEN = "frozen"
_ALWAYS_FLAGGED = {
    Skew.YEAR_1970: TIME_SKEWED,
    Skew.YEAR_2038: TIME_SKEWED,
    Skew.FAR_FUTURE: TIME_SKEWED,
    Skew.NO_CLOCK: TIME_FROM_GATEWAY,
}


def hostile_claims(
    settings: Settings,
    plan: Plan,
    journal: Journal,
    device_ids: Sequence[str],
    records: Mapping[str, "Record"],
    gateways: Sequence[Mapping[str, Any]],
) -> dict[str, list[str]]:
    """Violations by claim."""
    return {
        "clones_frozen": list(clone_violations(journal, records)),
        "replays_counted_once": list(replay_violations(journal, gateways)),
        "floods_refused": list(flood_violations(plan, journal, device_ids, records, gateways)),
        "telemetry_times_believable": asyncio.run(_times(settings, plan, journal, device_ids, records)),
    }


def clone_violations(journal: Journal, records: Mapping[str, "Record"]) -> Iterator[str]:
    for device_id, how in journal.cloned.items():
        record = records[device_id]
        if record.status != _FROZEN:
            yield f"{device_id} was {how} and is {record.status}"
        if not (record.rejected[EQUIVOCATION] or record.rejected[FORKED_HISTORY]):
            yield f"{device_id} was {how} and nothing of it was rejected for that"


def replay_violations(journal: Journal, gateways: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """That nothing was accepted twice or in another's name is in the books' names; here are the traces."""
    counts = journal.counts
    reports = [one["reports"] for one in gateways]
    repeated = sum(one["duplicates"] for one in reports)
    if counts["replays"] and not repeated:
        yield f"{counts['replays']} replays, and no gateway counted a duplicate"
    named = sum(one["refused"]["id_mismatch"] for one in reports)
    if named > counts["replays_in_foreign_names"] or (counts["replays_in_foreign_names"] and not named):
        yield (
            f"{counts['replays_in_foreign_names']} reports were sent on another device's own topic,"
            f" {named} were refused for their id"
        )


def flood_violations(
    plan: Plan,
    journal: Journal,
    device_ids: Sequence[str],
    records: Mapping[str, "Record"],
    gateways: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    if not journal.counts["floods"]:
        return
    refused = [one["reports"]["refused"] for one in gateways]
    for reason in ("over_quota", "malformed"):
        if not sum(one[reason] for one in refused):
            yield f"{journal.counts['floods']} floods, and no gateway refused anything as {reason}"
    flooders = [device_id for index, device_id in enumerate(device_ids) if plan.role(index) is Role.FLOODER]
    for code, what in ((BAD_MAC, "a wrong MAC"), (MALFORMED, "a bad pack")):
        if not sum(records[device_id].rejected[code] for device_id in flooders):
            yield f"{journal.counts['floods']} floods, and nothing was rejected for {what}"


async def _times(
    settings: Settings,
    plan: Plan,
    journal: Journal,
    device_ids: Sequence[str],
    records: Mapping[str, "Record"],
) -> list[str]:
    """Telemetry of devices with wrong clocks is stored at a believable time, and flagged. A second holder of
    a key has a clock of its own."""
    wrong: list[str] = []
    skewed = [
        (device_id, plan.skew(index))
        for index, device_id in enumerate(device_ids)
        if plan.skew(index) in _ALWAYS_FLAGGED
        and records[device_id].accepted
        and device_id not in journal.cloned
    ]
    if not skewed:
        return wrong
    now_ms = time.time_ns() // NS_PER_MS
    store = await open_store(store_settings(settings))
    try:
        for device_id, skew in skewed[:SKEWED_CHECKED_MAX]:
            samples = await store.latest(device_id)
            if not samples:
                wrong.append(f"{device_id} ({skew.name.lower()}) has no telemetry")
            wrong += [
                f"{device_id} ({skew.name.lower()}) has {sample.name} at {sample.time_ns // NS_PER_MS} ms,"
                f" flags {sample.flags}"
                for sample in samples
                if not sample.flags & _ALWAYS_FLAGGED[skew] or not _believable(sample.time_ns, now_ms)
            ]
    finally:
        await store.close()
    return wrong


def _believable(time_ns: int, now_ms: int) -> bool:
    return now_ms - RUN_MS_MAX <= time_ns // NS_PER_MS <= now_ms + TIME_FUTURE_MS_MAX
