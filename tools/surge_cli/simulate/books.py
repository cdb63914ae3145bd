"""Whether the books agree: what the fleet knows that happened against what the backend has, report by report.

Place in the flow: after a run on a network of its own, whose backend is stopped: reads its database, changes
nothing. ``claims`` says what has to be so of hostile devices. Rules kept: nothing is sampled but telemetry
(SKEWED_CHECKED_MAX devices); every check gives its violations in words, an empty list means that it holds;
the expected pay is computed here from the journal, not taken from the backend.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import Connection, select

from surge_backend.db.schema import ACTIVE, device_totals, devices, rejections
from surge_backend.ingest.places import accepted_reports
from surge_backend.invariants import check_all
from surge_backend.keys import read_log_key
from surge_backend.ledger.pricing import NUMERATORS_PER_MICROCREDIT, Tariff
from surge_backend.ledger.tariffs import FIRST_TARIFF
from surge_backend.log import MerkleLog
from surge_backend.opening import opened_database
from surge_backend.settings import Settings
from surge_cli.simulate.auditing import audit
from surge_cli.simulate.claims import hostile_claims
from surge_cli.simulate.device import Identity
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.plan import Plan
from surge_wire.verdicts import DUPLICATE, NAMES

VIOLATIONS_MAX = 20  # of each check


@dataclass(frozen=True)
class Record:
    """What the backend has of one device; ``rejected`` are codes with how often."""

    status: str = ACTIVE
    accepted: frozenset[tuple[int, int]] = frozenset()
    rejected: Counter[int] = field(default_factory=Counter)
    refused_names: frozenset[tuple[int, int]] = frozenset()
    reports: int = 0
    samples: int = 0
    bytes: int = 0
    owner_numerators: int = 0  # credited, dust included, in 1/NUMERATORS_PER_MICROCREDIT micro-credit


@dataclass(frozen=True)
class Books:
    """The result: ``checks`` by name, each with its violations; the backend's own totals; what gateways
    refused or dropped, by reason."""

    checks: dict[str, list[str]]
    accepted: int
    rejected: dict[str, int]
    credited_microcredits: int
    frozen: int
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether every check holds."""
        return not any(self.checks.values())


def check_books(
    settings: Settings,
    plan: Plan,
    journal: Journal,
    identities: Sequence[Identity],
    gateways: Sequence[dict[str, Any]],
    undrained: int = 0,
) -> Books:
    """Check all. ``gateways``: what each said in ``/status`` before it was stopped; ``undrained``: devices
    whose outbox was not empty at the end."""
    log = MerkleLog(read_log_key(settings.storage.log_key_path).seed)
    device_ids = [identity.device_id for identity in identities]
    with opened_database(settings) as database:
        with database.read() as connection:
            checks = check_all(connection, log.verify, acknowledged=journal.acknowledged_names())
            known = read_records(connection)
        keys = {identity.device_id: identity.report_key for identity in identities}
        checks["audit_finds_no_lie"] = audit(database, log.public_key, keys)
    records = {device_id: known.get(device_id, Record()) for device_id in device_ids}
    honest = [device_id for device_id in device_ids if device_id not in journal.cloned]
    checks["outboxes_drained"] = [f"{undrained} devices still wait for acks"] if undrained else []
    checks["honest_work_accepted"] = _first(accepted_violations(honest, records, journal))
    checks["honest_work_credited"] = _first(credited_violations(honest, records, journal, FIRST_TARIFF))
    checks["nobody_else_frozen"] = _first(
        f"{device_id} is {records[device_id].status}"
        for device_id in honest
        if records[device_id].status != ACTIVE
    )
    checks.update(hostile_claims(settings, plan, journal, device_ids, records, gateways))
    rejected: Counter[int] = sum((record.rejected for record in known.values()), Counter())
    credited = sum(record.owner_numerators for record in known.values()) // NUMERATORS_PER_MICROCREDIT
    return Books(
        checks,
        sum(len(record.accepted) for record in known.values()),
        {NAMES[code]: count for code, count in sorted(rejected.items())},
        credited,
        sum(record.status != ACTIVE for record in known.values()),
        _refused(gateways),
    )


def _refused(gateways: Sequence[dict[str, Any]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for gateway in gateways:
        total.update(gateway["reports"]["refused"])
        total["duplicate"] += gateway["reports"]["duplicates"]
    return {reason: count for reason, count in total.items() if count}


def read_records(connection: Connection) -> dict[str, Record]:
    """Every enrolled device's record."""
    accepted: dict[str, set[tuple[int, int]]] = {}
    for device_id, boot, place in accepted_reports(connection):
        accepted.setdefault(device_id, set()).add((boot, place.seq))
    codes: dict[str, Counter[int]] = {}
    refused: dict[str, set[tuple[int, int]]] = {}
    columns = (rejections.c.device_id, rejections.c.boot, rejections.c.seq, rejections.c.code)
    for device_id, boot, seq, code in connection.execute(select(*columns)):
        codes.setdefault(device_id or "", Counter())[code] += 1
        if boot is not None and code != DUPLICATE:
            refused.setdefault(device_id or "", set()).add((boot, seq))
    totals = {row.device_id: row for row in connection.execute(select(device_totals))}
    found = {}
    for row in connection.execute(select(devices.c.id, devices.c.status)):
        own = totals.get(row.id)
        found[row.id] = Record(
            row.status,
            frozenset(accepted.get(row.id, ())),
            codes.get(row.id, Counter()),
            frozenset(refused.get(row.id, ())),
            own.reports if own else 0,
            own.samples if own else 0,
            own.bytes if own else 0,
            own.microcredits * NUMERATORS_PER_MICROCREDIT + own.carry if own else 0,
        )
    return found


def accepted_violations(
    honest: Iterable[str], records: Mapping[str, Record], journal: Journal
) -> Iterator[str]:
    """Each report that an honest device made, and flash didn't lose, is accepted; and no other is."""
    for device_id in honest:
        made = journal.sealed_names(device_id)
        accepted = records[device_id].accepted
        for boot, seq in sorted(made - accepted)[:VIOLATIONS_MAX]:
            yield f"report {seq} of boot {boot} of {device_id} was made and is not accepted"
        for boot, seq in sorted(accepted - made)[:VIOLATIONS_MAX]:
            yield f"report {seq} of boot {boot} of {device_id} is accepted and was never made, or was lost"
        for boot, seq in sorted(made & records[device_id].refused_names)[:VIOLATIONS_MAX]:
            yield f"report {seq} of boot {boot} of {device_id} is honest and was refused"


def credited_violations(
    honest: Iterable[str], records: Mapping[str, Record], journal: Journal, tariff: Tariff
) -> Iterator[str]:
    """Each honest device's samples and bytes are counted once, and paid to the last fraction."""
    for device_id in honest:
        own, record = journal.sealings.get(device_id), records[device_id]
        samples, length = (own.samples, own.bytes) if own else (0, 0)
        if (record.samples, record.bytes) != (samples, length):
            yield (
                f"{device_id} made {samples} samples in {length} bytes,"
                f" {record.samples} in {record.bytes} are counted"
            )
        due = tariff.owner_numerators(samples, length)
        if record.owner_numerators != due:
            yield f"{device_id} is due {due} parts of a micro-credit, {record.owner_numerators} are credited"


def _first(violations: Iterator[str]) -> list[str]:
    return list(islice(violations, VIOLATIONS_MAX))
