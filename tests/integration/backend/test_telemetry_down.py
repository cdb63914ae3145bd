"""The telemetry store is away: a real server killed under a load that goes on, for an hour of the projector's
clock, and under a backend that is killed too. Nothing is lost, what waits waits in the database and not in
memory, and catching up leaves room for what comes meanwhile.
"""

import asyncio
import gc
import signal
import sqlite3
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "contract"))

from telemetry_servers import Server, influx1_server

from surge_backend.db import migrations
from surge_backend.db.engine import Database, open_engine
from surge_backend.db.schema import devices, gateways, owners
from surge_backend.ingest import Ingest
from surge_backend.keys import SecretVault
from surge_backend.ledger.posting import open_issuance
from surge_backend.ledger.tariffs import ensure_first_tariff
from surge_backend.log import MerkleLog
from surge_backend.projection import StoredCursor, StoredPoints
from surge_backend.projection.source import ENTRIES_MAX
from surge_backend.telemetry.factory import TelemetrySettings, make_store
from surge_backend.telemetry.points import Point
from surge_backend.telemetry.projection import ProjectorSettings
from surge_backend.telemetry.projector import Projector
from surge_wire import ed25519
from surge_wire.batch import FIRST_PREVIOUS, Batch, chain_hash, encode_batch, seal_batch
from surge_wire.hkdf import INFO_REPORT, derive_key
from surge_wire.ids import DEVICE, GATEWAY, OWNER, make_id
from surge_wire.report import Report, seal_report
from surge_wire.senml import make_record

HOUR_S = 3600.0
BATCH_EVERY_S = 10.0  # while the store is away
PRESENT = 20  # batches that come in while it catches up
REPORTS = 20  # in a batch
RECORDS = 5  # in a report
POINTS = REPORTS * RECORDS
NOW_MS = 1_750_000_000_000


@pytest.fixture
def influxd(tmp_path: Path) -> Iterator[Server]:
    """A real server, started."""
    folder = tmp_path / "influx"
    folder.mkdir()
    server = influx1_server(folder)
    server.start()
    yield server
    server.kill()


class Feed:
    """A gateway with one device, and the ingest that settles its batches; `times_s` of each."""

    def __init__(self, path: Path) -> None:
        self.database: Database = open_engine(str(path))
        migrations.upgrade(self.database)
        self.log = MerkleLog(bytes(range(32)))
        vault = SecretVault(bytes(32))
        self.owner_id, self.gateway_id = make_id(OWNER, b"o" * 10), make_id(GATEWAY, b"g" * 10)
        self.device_id, self.secret, self.seed = make_id(DEVICE, b"d" * 10), b"s" * 32, b"k" * 32
        with self.database.write() as connection:
            self.log.open(connection, NOW_MS)
            open_issuance(connection)
            ensure_first_tariff(connection, NOW_MS)
            connection.execute(owners.insert().values(id=self.owner_id, name="o", created_ms=0))
            key = ed25519.public_key(self.seed)
            connection.execute(
                gateways.insert().values(
                    id=self.gateway_id,
                    owner_id=self.owner_id,
                    name="g",
                    public_key=key,
                    status="active",
                    chain_hash=FIRST_PREVIOUS,
                    created_ms=0,
                )
            )
            connection.execute(
                devices.insert().values(
                    id=self.device_id,
                    owner_id=self.owner_id,
                    name="d",
                    board="linux",
                    secret_sealed=vault.seal(self.device_id, self.secret),
                    mqtt_bcrypt="",
                    mqtt_pbkdf2_sha512="",
                    status="active",
                    revision=1,
                    created_ms=0,
                )
            )
        self.ingest = Ingest(self.database, self.log, vault.open)
        self.sign = ed25519.signer(self.seed)
        self.seq = self.batch_seq = 0
        self.previous = FIRST_PREVIOUS
        self.times_s: list[float] = []

    def _report(self) -> bytes:
        self.seq += 1
        records = [make_record(f"q{number}", "Cel", self.seq + number / 8) for number in range(RECORDS)]
        report = Report(1, self.seq - 1, 1_000 * self.seq, None, records)
        return seal_report(self.device_id, derive_key(self.secret, INFO_REPORT), report)

    def settle(self) -> int:
        """One more batch; the log's length with it."""
        received_ms = NOW_MS + 1_000 * self.batch_seq
        reports = [self._report() for _ in range(REPORTS)]
        batch = Batch(self.batch_seq, self.previous, received_ms, reports, [received_ms] * REPORTS)
        payload = encode_batch(batch)
        envelope = seal_batch(self.gateway_id, self.sign, payload)
        began_s = time.perf_counter()
        result = self.ingest.submit(self.gateway_id, envelope, received_ms)
        self.times_s.append(time.perf_counter() - began_s)
        self.batch_seq += 1
        self.previous = chain_hash(payload)
        return result.log_index + 1


class HourClock:
    """Time passes when the projector waits, and meanwhile the batches of that time come in."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.arrivals: Any = None  # (from, to) -> None
        self.waiting = asyncio.Event()

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        if seconds and self.arrivals is not None:
            await asyncio.to_thread(self.arrivals, self.now_s, self.now_s + seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        self.waiting.set()
        await event.wait()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What it is given is closed at the end."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def feed(tmp_path: Path) -> AsyncIterator[Feed]:
    made = Feed(tmp_path / "surge.db")
    yield made
    made.database.close()


def live_points() -> int:
    return sum(type(each) is Point for each in gc.get_objects())


async def test_a_server_away_for_an_hour_loses_nothing_and_holds_up_nothing(
    feed: Feed, influxd: Server, stack: AsyncExitStack
) -> None:
    clock = HourClock()
    store = make_store(TelemetrySettings(kind="influx1", url=influxd.url))
    settings = ProjectorSettings(entries_max=ENTRIES_MAX)
    projector = Projector(StoredPoints(feed.database), StoredCursor(feed.database), store, settings, clock)
    stack.push_async_callback(store.close)
    await store.open()
    for _ in range(40):
        projector.notify(feed.settle())
    await projector.catch_up()
    before = statistics.median(feed.times_s)
    influxd.kill()

    def arrivals(from_s: float, to_s: float) -> None:
        for _ in range(int(to_s // BATCH_EVERY_S) - int(from_s // BATCH_EVERY_S)):
            projector.notify(feed.settle())

    clock.arrivals = arrivals
    projector.notify(feed.settle())
    began_s = clock.now_s
    while clock.now_s - began_s < HOUR_S:
        assert await projector.step()
    waiting = feed.batch_seq - 40
    away = statistics.median(feed.times_s[40:])
    stats = projector.stats
    assert waiting == 1 + int(clock.now_s // BATCH_EVERY_S) - int(began_s // BATCH_EVERY_S) > 360
    assert (stats.position, stats.saved, stats.lag) == (40, 40, waiting)
    # What waits is in the database: in memory is at most one read of it.
    gc.collect()
    assert live_points() <= ENTRIES_MAX * POINTS

    influxd.start()
    clock.arrivals = None
    projector.resume()  # as the next process would, from the cursor alone
    meanwhile = 0
    held_max = 0
    write = store.write

    async def watched(points: Any) -> None:
        nonlocal held_max
        held_max = max(held_max, live_points())
        await write(points)

    store.write = watched  # type: ignore[method-assign]
    caught_up = asyncio.create_task(projector.catch_up())
    for _ in range(PRESENT):
        projector.notify(await asyncio.to_thread(feed.settle))
        meanwhile += projector.stats.position < 40 + waiting
    await caught_up
    await projector.catch_up()
    present = statistics.median(feed.times_s[-PRESENT:][:meanwhile])
    print(
        f"{waiting} batches waited; settling one took {away * 1000:.1f} ms while the store was away"
        f" (x {away / before:.2f} of before), x {present / away:.2f} while it caught up; {held_max} points in"
        " memory at most"
    )
    assert held_max <= 2 * ENTRIES_MAX * POINTS  # the read before may not be collected yet
    assert meanwhile >= PRESENT // 4  # settled before all that waited was written: the present isn't starved
    assert (projector.stats.lag, projector.stats.saved) == (0, feed.batch_seq)
    assert await store.count() == feed.batch_seq * POINTS


def test_a_backend_killed_while_behind_goes_on_where_its_cursor_is(backend: Any, influxd: Server) -> None:
    backend.configure(f"[telemetry]\nkind = 'influx1'\nurl = '{influxd.url}'\nretry_max_s = 0.5\n")
    backend.start()
    _, owner = backend.owner("Ada")
    gateway, device = backend.gateway(owner), backend.device(owner)
    now_ms = backend.now_ms(gateway)

    def submit(count: int) -> None:
        for _ in range(count):
            batch = gateway.batch([device.report() for _ in range(REPORTS)], now_ms)
            assert backend.submit(gateway, batch).status_code == 201

    submit(5)
    backend.wait_for(lambda found: found["telemetry_points"] == 5 * REPORTS)
    influxd.kill()
    submit(20)
    backend.wait_for(lambda found: found["telemetry_lag"] == 20)
    resident_kib = resident(backend.process.pid)
    submit(80)
    grown_kib = resident(backend.process.pid) - resident_kib
    backend.stop(signal.SIGKILL)
    assert cursor(backend.database) == 5
    backend.start()
    submit(20)
    backend.wait_for(lambda found: found["telemetry_lag"] == 120)
    influxd.start()
    submit(10)  # while it catches up
    stats = backend.wait_for(lambda found: found["telemetry_points"] == 135 * REPORTS)
    assert stats["reports_accepted"] == 135 * REPORTS
    backend.wait_for(lambda found: found["telemetry_lag"] == 0)
    assert backend.stop() == 0
    assert cursor(backend.database) == 135
    print(f"80 batches behind: {grown_kib} KiB more resident memory")


def resident(pid: int) -> int:
    """Of a process, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def cursor(database: Path) -> int:
    connection = sqlite3.connect(database)
    try:
        return int(connection.execute("SELECT value FROM projector_state").fetchone()[0])
    finally:
        connection.close()
