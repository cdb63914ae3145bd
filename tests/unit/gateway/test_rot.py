"""Every byte of every file of a gateway flipped, at rest and while it runs (threat 14): each flip is found
and said, all that is whole is served, and what was acknowledged arrives unless its own bytes were hit.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway_backend import BackendState, Conflict, Log
from gateway_clock import FakeClock
from gateway_files import PowerCut, SimulatedFiles
from gateway_reports import make_device
from structlog.testing import capture_logs

from surge_gateway.backend_client import DeviceEntry, decode_base64url, encode_base64url
from surge_gateway.backoff import Backoff
from surge_gateway.chain import SealedBatch
from surge_gateway.checked_file import encode_checked
from surge_gateway.commit import Commit
from surge_gateway.counters import Counters
from surge_gateway.cut import CutLimits, cut_verbatim
from surge_gateway.devices import Devices
from surge_gateway.distrust import Distrust
from surge_gateway.errors import IdentityError
from surge_gateway.files import write_new
from surge_gateway.identity import IDENTITY_NAME, KEY_NAME, TOKEN_NAME, encode_identity, read_identity
from surge_gateway.ingress import Ingress
from surge_gateway.log_watch import FILE_NAME as LOG_HEAD_NAME
from surge_gateway.log_watch import ROOT, TREE_SIZE, Tree, read_trusted
from surge_gateway.quota import Quota
from surge_gateway.registry import FILE_NAME as REGISTRY_NAME
from surge_gateway.registry import encode_registry, read_registry
from surge_gateway.spool_record import START
from surge_gateway.store import Store, open_store
from surge_wire.ack import decode_ack
from surge_wire.ed25519 import public_key, signer

FOLDER = Path("state")
GATEWAY_ID = "gaaaaaaaaaaaaaaaa"
SEED = b"g" * 32
LIMITS = CutLimits(2, 10_000)
BITS = (0x01, 0x80)
sign = signer(SEED)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


class Site:
    """A gateway's store and its backend; `sent` are the envelopes that the backend has."""

    def __init__(self, disk: SimulatedFiles, sent: list[bytes]) -> None:
        self.disk = disk
        self.sent: list[bytes] = []
        self.backend = BackendState(GATEWAY_ID, public_key(SEED))
        for envelope in sent:
            self.submit(envelope)
        self.start()

    def start(self) -> None:
        self.store: Store = open_store(
            self.disk,
            FOLDER,
            self.disk.random.randbytes,
            len_max=100_000,
            batch_len_max=1000,
            on_record=lambda _record: None,
        )

    def submit(self, envelope: bytes) -> None:
        """Raises Conflict."""
        self.backend.submit(envelope)
        self.sent.append(envelope)

    def reconcile(self) -> None:
        self.store.reconcile(self.backend.next_seq, self.backend.previous)

    def seal(self) -> SealedBatch:
        batch = self.store.seal(cut_verbatim, LIMITS, 2, GATEWAY_ID, sign)
        assert batch is not None
        return batch

    def send_all(self) -> None:
        """As the uplink does it: a refusal asks the backend again where it stands."""
        refused = 0
        while not self.store.reconciled or self.store.waiting_count or self.store.sealed_count:
            if not self.store.reconciled:
                self.reconcile()
            self.store.seal(cut_verbatim, LIMITS, 2, GATEWAY_ID, sign)
            batch = self.store.oldest()
            try:
                if batch is not None:
                    self.submit(batch.envelope)
                    self.store.confirm(batch)
            except Conflict:
                refused += 1
                assert refused < 10, "it halts for ever"
                self.store.unreconcile()

    def missing(self, made: list[bytes]) -> list[bytes]:
        return [report for report in made if report not in self.backend.reports]


def full_site() -> tuple[Site, list[bytes]]:
    """Two batches sent, two sealed, reports in two segments that wait; and all reports, in order."""
    site = Site(SimulatedFiles(), [])
    device = make_device()
    site.reconcile()
    site.store.append([(1, device.report()) for _ in range(4)])
    for _ in range(2):
        batch = site.seal()
        site.submit(batch.envelope)
        site.store.confirm(batch)
    site.store.append([(1, device.report()) for _ in range(4)])
    site.seal()
    site.seal()
    site.store.append([(1, device.report()) for _ in range(2)])
    site.store.close()
    site.store.append([(1, device.report()) for _ in range(2)])
    site.store.close()
    return site, device.made


REPORTED = {"spool_damage", "file_set_aside", "chain_state_damaged"}


@pytest.mark.threat(14)
@pytest.mark.parametrize("folder", ["spool", "batches", "."])
def test_every_flipped_byte_at_rest_is_said_and_the_rest_is_served(folder: str) -> None:
    site, made = full_site()
    released = site.store._confirmed.released
    flips = 0
    for name in site.disk.names(FOLDER / folder):
        if name == "reserve":  # random bytes, which nobody reads
            continue
        path = FOLDER / folder / name
        data = site.disk.read(path)
        # Of the segment that receipts cover in part, what they cover is not looked at any more.
        first = released.offset if name.startswith(f"{released.segment:012d}-") else 0
        for at in range(first, len(data)):
            disk = site.disk.copy()
            disk.put(path, flipped(data, at, BITS[at % 2]))
            with capture_logs() as logs:
                after = Site(disk, site.sent)
            assert {entry["event"] for entry in logs} & REPORTED, (name, at)
            after.send_all()
            missing = after.missing(made)
            # One record, and only where no sealed batch has a copy of it.
            allowed = made[8:] if folder == "spool" else []
            assert len(missing) <= 1, (name, at)
            assert set(missing) <= set(allowed), (name, at)
            assert bool(missing) == bool(folder == "spool" and after.store.quarantine.spans and missing)
            flips += 1
    assert flips > 50


@pytest.mark.threat(14)
def test_every_flipped_byte_of_log_head_and_registry_is_said_and_asked_anew() -> None:
    disk = SimulatedFiles()
    head, registry = FOLDER / LOG_HEAD_NAME, FOLDER / REGISTRY_NAME
    root = random.Random(1).randbytes(32)
    write_new(disk, head, encode_checked({TREE_SIZE: 17, ROOT: root}))
    entries = [
        DeviceEntry(make_device(seed).device_id, "active", "$2b$04$x", "PBKDF2$x", seed) for seed in (1, 2)
    ]
    write_new(disk, registry, encode_registry(2, entries))
    assert read_trusted(disk, FOLDER) == Tree(17, root)
    assert read_registry(disk, registry) == (2, {entry.device_id: entry for entry in entries})
    for path, event in ((head, "log_head_damaged"), (registry, "registry_damaged")):
        data = disk.read(path)
        for at in range(len(data)):
            for bit in BITS:
                disk.put(path, flipped(data, at, bit))
                with capture_logs() as logs:
                    found: Any = read_trusted(disk, FOLDER) if path == head else read_registry(disk, path)
                assert found == (None if path == head else (0, {}))
                assert [entry["event"] for entry in logs] == [event]
        disk.put(path, data)


def read_flipped_identity(disk: SimulatedFiles) -> tuple[str, bytes]:
    """What is told, and the key that would be used."""
    try:
        found = read_identity(disk, FOLDER)
    except IdentityError as error:
        return f"{'damaged' if 'damaged' in error.what else error.what}: {error.where}", b""
    return "", found.seed_bytes if found is not None else b""


@pytest.mark.threat(14)
@pytest.mark.threat(25)
def test_every_flipped_byte_of_identity_and_key_is_told_and_no_other_key_signs() -> None:
    disk = SimulatedFiles()
    write_new(disk, FOLDER / KEY_NAME, encode_base64url(SEED).encode() + b"\n")
    write_new(disk, FOLDER / TOKEN_NAME, b"token\n")
    log_key = Log().public_key
    identity = encode_identity(GATEWAY_ID, public_key(SEED), log_key, "test", "http://127.0.0.1:1")
    write_new(disk, FOLDER / IDENTITY_NAME, identity)
    whole = read_identity(disk, FOLDER)
    assert whole is not None
    assert (whole.gateway_id, whole.log_public_key, whole.seed_bytes) == (GATEWAY_ID, log_key, SEED)
    harmless = 0
    for name in (KEY_NAME, IDENTITY_NAME):
        data = disk.read(FOLDER / name)
        for at in range(len(data)):
            for bit in BITS:
                disk.put(FOLDER / name, flipped(data, at, bit))
                told, seed = read_flipped_identity(disk)
                if seed == SEED and name == KEY_NAME:
                    harmless += 1  # the line's end, or a bit that base64url doesn't use
                else:
                    assert told == f"damaged: {FOLDER / name}"
        disk.put(FOLDER / name, data)
    assert harmless <= 2
    assert decode_base64url(whole.seed.reveal()) == SEED


class Running:
    """What stands between devices and the disk while a gateway runs; `run` does what commit's loop does."""

    def __init__(self) -> None:
        self.disk = SimulatedFiles()
        self.clock = FakeClock()
        self.counters = Counters()
        self.devices = Devices(10_000)
        self.device = make_device()
        self.devices.enrol(self.device.device_id)
        self.site = Site(self.disk, [])
        self.site.reconcile()
        self.store = self.site.store
        self.distrust = Distrust(self.store.quarantine, self.devices)
        self.ingress = Ingress(
            self.devices,
            Quota(10_000, 10_000),
            self.clock,
            self.counters,
            report_len_max=4096,
            pending_len_max=1 << 20,
        )
        self.acknowledged: set[int] = set()
        self.commit = Commit(
            self.ingress,
            self.store,
            self.publish,
            self.on_disk,
            self.clock,
            self.counters,
            Backoff(200, 10_000, random.Random(1).random),
            stored=lambda: None,
        )

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> bool:
        for first, last in decode_ack(payload).ranges:
            self.acknowledged.update(range(first, last + 1))
        return True

    async def on_disk(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        finally:
            self.distrust.look()

    async def receive(self, *reports: bytes) -> set[int]:
        """The seqs that were acknowledged for them."""
        self.acknowledged = set()
        for report in reports:
            self.ingress.on_message(self.device.topic, report, False)
        await self.commit.flush()
        return self.acknowledged


@pytest.mark.threat(14)
async def test_every_byte_that_rots_while_it_runs_is_said_and_a_copy_sent_again_is_stored_again() -> None:
    """A device whose ack was lost sends again what has rotted meanwhile: it is not taken for a duplicate."""
    length = 1
    at = 0
    while at < length:
        rig = Running()
        made = [rig.device.report() for _ in range(4)]
        assert await rig.receive(*made) == {0, 1, 2, 3}
        (name,) = rig.disk.names(FOLDER / "spool")
        data = rig.disk.read(FOLDER / "spool" / name)
        length = len(data)
        rig.disk.put(FOLDER / "spool" / name, flipped(data, at, BITS[at % 2]))
        with capture_logs() as logs:
            await rig.on_disk(rig.site.send_all)
        assert {"spool_damage", "acknowledged_reports_damaged"} <= {entry["event"] for entry in logs}
        (lost,) = rig.site.missing(made)
        assert rig.store.quarantine.spans == 1
        assert await rig.receive(made[0], lost) >= {made.index(lost)}
        rig.site.send_all()
        assert rig.site.missing(made) == []
        at += 3


@pytest.mark.threat(14)
async def test_until_a_rotten_report_is_sent_again_no_ack_names_it() -> None:
    rig = Running()
    made = [rig.device.report() for _ in range(3)]
    await rig.receive(*made)
    (name,) = rig.disk.names(FOLDER / "spool")
    data = rig.disk.read(FOLDER / "spool" / name)
    rig.disk.put(FOLDER / "spool" / name, flipped(data, len(data) // 2, 1))
    assert len(list(rig.store.spool.read(START))) == 2
    rig.distrust.look()
    assert await rig.receive(rig.device.report()) == {3}


LANDINGS = ["never", "before it asks", "before it seals", "before it sends"]


def go_on_after_damage(site: Site, landing: str, in_flight: bytes) -> None:
    """The backend gets the old batch at one moment or another; then everything is sent."""
    if landing == "before it asks":
        site.submit(in_flight)
    if not site.store.reconciled:
        site.reconcile()
    if landing == "before it seals":
        site.submit(in_flight)
    site.seal()
    site.seal()
    if landing == "before it sends":
        site.submit(in_flight)
    site.send_all()


@pytest.mark.threat(10)
@pytest.mark.threat(14)
@pytest.mark.parametrize("landing", LANDINGS)
@pytest.mark.parametrize("also", ["", "chain.state"])
def test_a_rotten_batch_whose_request_is_still_on_its_way_halts_nothing(landing: str, also: str) -> None:
    site, made = full_site()
    first = site.store.oldest()
    assert first is not None
    for path in [FOLDER / "batches" / f"{first.seq:016d}.batch", *([FOLDER / also] if also else [])]:
        site.disk.put(path, flipped(site.disk.read(path), 50, 1))
    site.start()
    go_on_after_damage(site, landing, first.envelope)
    assert site.missing(made) == []
    site.start()
    assert site.store._confirmed.certain


@pytest.mark.threat(10)
@pytest.mark.threat(14)
@pytest.mark.parametrize("landing", LANDINGS)
def test_a_power_cut_anywhere_in_that_loses_nothing(landing: str) -> None:
    cut_at = 0
    while True:
        cut_at += 1
        site, made = full_site()
        first = site.store.oldest()
        assert first is not None
        path = FOLDER / "batches" / f"{first.seq:016d}.batch"
        site.disk.put(path, flipped(site.disk.read(path), 50, 1))
        site.disk = site.disk.copy()
        site.disk.cut_at = cut_at
        try:
            site.start()
            go_on_after_damage(site, landing, first.envelope)
            return
        except PowerCut:
            site.disk = site.disk.restart()
        site.start()
        site.send_all()
        assert site.missing(made) == []
