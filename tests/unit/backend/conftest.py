"""A backend's core on a real database, with owners, gateways and devices that sign for real."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from databases import (
    KINDS,
    POSTGRESQL,
    SQLITE,
    TEMPLATE,
    NewDatabase,
    fill_template,
    new_postgresql,
    sqlite_url,
)
from postgresql_server import PostgresServer
from sqlalchemy import Connection, insert, select

from surge_backend.db import migrations
from surge_backend.db.engine import Database, open_engine
from surge_backend.db.schema import accounts, batches, devices, gateways, owners
from surge_backend.ingest import Ingest, SubmissionResult
from surge_backend.ingest.places import Place, accepted_reports
from surge_backend.keys import SecretVault
from surge_backend.ledger.posting import open_issuance, open_owner_accounts
from surge_backend.ledger.pricing import owner_account
from surge_backend.ledger.tariffs import ensure_first_tariff
from surge_backend.log import MerkleLog
from surge_backend.registry import events
from surge_backend.registry.device_rows import next_revision
from surge_backend.verify.limits import VerifyLimits
from surge_wire import ed25519
from surge_wire.batch import FIRST_PREVIOUS, Batch, Summarised, Window, chain_hash, encode_batch, seal_batch
from surge_wire.hkdf import INFO_REPORT, derive_key
from surge_wire.ids import DEVICE, GATEWAY, OWNER, make_id
from surge_wire.report import Report, Usage, seal_report
from surge_wire.senml import make_record
from surge_wire.settlement import Settlement
from surge_wire.verdicts import NAMES

START_MS = 1_750_000_000_000
LOG_SEED = bytes(range(32))


@dataclass
class BoardSimulator:
    """A device's counters and key; every report is sealed by the wire format's own code."""

    id: str
    secret: bytes
    owner_id: str
    boot: int = 1
    seq: int = 0

    def seal(self, boot: int, seq: int, samples: int = 3, key: bytes | None = None, **fields: Any) -> bytes:
        """A report of that name; ``fields`` as in `Report`, ``pack`` instead of ``samples``."""
        if "pack" not in fields:
            fields["pack"] = [make_record(f"q{i}", "Cel", 20.5 + i) for i in range(samples)] or None
        if fields["pack"] is None and "usage" not in fields:
            fields["usage"] = Usage(seq, 0, 0, 0)
        report = Report(boot, seq, fields.pop("uptime_ms", 1_000 * seq), **fields)
        return seal_report(self.id, key or derive_key(self.secret, INFO_REPORT), report)

    def next(self, samples: int = 3, **fields: Any) -> bytes:
        """The next report of this boot."""
        self.seq += 1
        return self.seal(self.boot, self.seq - 1, samples, **fields)

    def restart(self) -> None:
        """Begin the next boot."""
        self.boot += 1
        self.seq = 0


@dataclass
class Forwarder:
    """A gateway's key and chain."""

    id: str
    owner_id: str
    seed: bytes
    seq: int = 0
    previous: bytes = FIRST_PREVIOUS

    def seal(
        self,
        reports: list[bytes],
        received_ms: int = START_MS,
        seq: int | None = None,
        previous: bytes | None = None,
        windows: list[Window] | None = None,
        summarised: list[Summarised] | None = None,
    ) -> bytes:
        """The envelope of a batch; by default the next of the chain."""
        batch = Batch(
            self.seq if seq is None else seq,
            self.previous if previous is None else previous,
            received_ms,
            reports,
            [received_ms] * len(reports),
            windows,
            summarised,
        )
        self.payload = encode_batch(batch)
        return seal_batch(self.id, ed25519.signer(self.seed), self.payload)

    def settled(self) -> None:
        """Go on to the next batch."""
        self.seq += 1
        self.previous = chain_hash(self.payload)


@dataclass
class World:
    """One backend, and everybody around it."""

    database: Database
    log: MerkleLog
    vault: SecretVault
    ingest: Ingest
    now_ms: int = START_MS
    made: int = field(default=0)

    def _id(self, kind: str) -> str:
        self.made += 1
        return make_id(kind, self.made.to_bytes(10, "big"))

    def owner(self) -> str:
        """Enrol an owner."""
        owner_id = self._id(OWNER)
        with self.database.write() as connection:
            connection.execute(insert(owners).values(id=owner_id, name="owner", created_ms=0))
            open_owner_accounts(connection, [owner_id])
            events.record_event(connection, events.OWNER_CREATED, owner_id, self.now_ms)
        return owner_id

    def gateway(self, owner_id: str | None = None) -> Forwarder:
        """Enrol a gateway."""
        owner_id = owner_id or self.owner()
        gateway_id = self._id(GATEWAY)
        gateway = Forwarder(gateway_id, owner_id, self.made.to_bytes(32, "big"))
        with self.database.write() as connection:
            connection.execute(
                insert(gateways).values(
                    id=gateway_id,
                    owner_id=owner_id,
                    name="gateway",
                    public_key=ed25519.public_key(gateway.seed),
                    status="active",
                    chain_hash=FIRST_PREVIOUS,
                    created_ms=0,
                )
            )
            detail = {events.OWNER_ID: owner_id, events.PUBLIC_KEY: ed25519.public_key(gateway.seed)}
            events.record_event(connection, events.GATEWAY_ENROLLED, gateway_id, self.now_ms, detail)
        return gateway

    def device(self, owner_id: str | None = None, gateway: Forwarder | None = None) -> BoardSimulator:
        """Enrol a device."""
        owner_id = owner_id or self.owner()
        device_id = self._id(DEVICE)
        secret = self.made.to_bytes(32, "little")
        with self.database.write() as connection:
            connection.execute(
                insert(devices).values(
                    id=device_id,
                    owner_id=owner_id,
                    name="device",
                    board="linux",
                    gateway_id=gateway.id if gateway else None,
                    secret_sealed=self.vault.seal(device_id, secret),
                    mqtt_bcrypt="",
                    mqtt_pbkdf2_sha512="",
                    status="active",
                    revision=next_revision(connection),
                    created_ms=0,
                )
            )
            detail = {events.OWNER_ID: owner_id, events.GATEWAY_ID: gateway.id if gateway else None}
            events.record_event(connection, events.DEVICE_ENROLLED, device_id, self.now_ms, detail)
        return BoardSimulator(device_id, secret, owner_id)

    def submit(self, gateway: Forwarder, envelope: bytes) -> SubmissionResult:
        """Hand an envelope in as ``gateway``."""
        return self.ingest.submit(gateway.id, envelope, self.now_ms)

    def send(self, gateway: Forwarder, *reports: bytes, **batch: Any) -> Settlement:
        """Batch ``reports``, submit them, and go on; gives the settlement."""
        result = self.submit(gateway, gateway.seal(list(reports), received_ms=self.now_ms, **batch))
        assert result.is_new
        gateway.settled()
        return result.settlement

    def verdicts(self, gateway: Forwarder, *reports: bytes, **batch: Any) -> list[str]:
        """Like `send`; gives the verdicts' names."""
        return [NAMES[code] for code in self.send(gateway, *reports, **batch).verdicts()]

    def rows(self, statement: Any) -> list[Any]:
        """What a statement finds."""
        with self.database.read() as connection:
            return list(connection.execute(statement).all())

    def accepted(self) -> list[tuple[str, int, Place]]:
        """Every accepted report: device, boot, place; in the order of devices, boots and numbers."""
        with self.database.read() as connection:
            return list(accepted_reports(connection))

    def balance(self, owner_id: str) -> int:
        """An owner's micro-credits, 0 without an account."""
        found = self.rows(select(accounts.c.balance).where(accounts.c.id == owner_account(owner_id)))
        return found[0][0] if found else 0

    def snapshot(self) -> dict[str, list[Any]]:
        """Every row of every table but the alarms: what must not change when something is refused."""
        with self.database.read() as connection:
            return {
                table.name: _all_rows(connection, table)
                for table in batches.metadata.sorted_tables
                if table.name != "alarms"
            }


def _all_rows(connection: Connection, table: Any) -> list[Any]:
    return sorted((tuple(row) for row in connection.execute(select(table))), key=repr)


def open_world(url: str, limits: VerifyLimits | None = None) -> World:
    """A backend on the database at ``url``, which may be empty."""
    database = open_engine(url, busy_timeout_ms=50)
    migrations.upgrade(database)
    log = MerkleLog(LOG_SEED)
    vault = SecretVault(bytes(32))
    with database.write() as connection:
        log.open(connection, START_MS)
        open_issuance(connection)
        ensure_first_tariff(connection, START_MS)
    return World(database, log, vault, Ingest(database, log, vault.open, limits or VerifyLimits()))


@pytest.fixture(scope="session")
def template(postgresql: PostgresServer) -> str:
    """The name of a PostgreSQL database with this version's tables, to copy from."""
    postgresql.add_template(TEMPLATE, fill_template)
    return TEMPLATE


@pytest.fixture(params=KINDS)
def database_kind(request: pytest.FixtureRequest) -> str:
    """Runs the test on each kind of database."""
    return str(request.param)


@pytest.fixture
def new_database(database_kind: str, request: pytest.FixtureRequest) -> NewDatabase:
    """``with new_database() as url:`` is a database of its own; PostgreSQL's has the tables already."""
    if database_kind == SQLITE:
        return sqlite_url
    return new_postgresql(request.getfixturevalue("postgresql"), request.getfixturevalue("template"))


@pytest.fixture
def database_url(new_database: NewDatabase) -> Iterator[str]:
    """The URL of the test's own database."""
    with new_database() as url:
        yield url


@pytest.fixture
def empty_url(database_kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database without tables."""
    made = sqlite_url
    if database_kind == POSTGRESQL:
        made = new_postgresql(request.getfixturevalue("postgresql"), "template0")
    with made() as url:
        yield url


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A fresh backend."""
    world = open_world(database_url)
    yield world
    world.database.close()


@pytest.fixture
def reopen(database_url: str) -> Iterator[Any]:
    """``reopen(world)``: the same database, as a process that has just started sees it."""
    opened = []

    def again(world: World, limits: VerifyLimits | None = None) -> World:
        fresh = open_world(database_url, limits)
        fresh.now_ms, fresh.made = world.now_ms, world.made
        opened.append(fresh)
        return fresh

    yield again
    for fresh in opened:
        fresh.database.close()


@pytest.fixture(scope="session")
def open_at() -> Any:
    """``open_at(url)``: one more backend, for tests that need many."""
    return open_world
