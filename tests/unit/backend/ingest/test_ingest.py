"""A batch in, one transaction, one answer out: what is stored, what is paid, and what a repetition gets."""

import copy
import hashlib
import json
import random
import threading
from typing import Any

import pytest
from databases import full_disk
from sqlalchemy import select, text, update

from surge_backend.db import schema
from surge_backend.db.boots import BOOTS
from surge_backend.db.engine import open_engine
from surge_backend.db.schema import (
    accounts,
    alarms,
    batches,
    device_totals,
    gateways,
    rejections,
    summaries,
    transfers,
)
from surge_backend.errors import (
    BadSignature,
    BatchConflict,
    ChainBroken,
    GatewayRevoked,
    InvariantViolated,
    KeyUnreadable,
    LogForked,
    MalformedBatch,
    OutOfOrder,
    StoreBusy,
    StoreFull,
)
from surge_backend.ingest import Ingest, service
from surge_backend.ingest.histories import Histories
from surge_backend.ledger.check import check_ledger
from surge_backend.log.check import check_log
from surge_wire.batch import Summarised, Window
from surge_wire.ids import DEVICE, make_id
from surge_wire.limits import BATCH_LEN_MAX
from surge_wire.report import Usage
from surge_wire.senml import make_record
from surge_wire.submission import verify_submission


def test_a_batch_is_stored_paid_and_receipted(world: Any):
    gateway, device = world.gateway(), world.device()
    sealed = [device.next(samples=7), device.next(samples=5), device.next(samples=0)]
    envelope = gateway.seal(sealed)
    result = world.submit(gateway, envelope)
    assert (result.is_new, result.log_index) == (True, 0)
    settlement, index, _size, _root = verify_submission(
        result.answer, hashlib.sha256(envelope).digest(), gateway.id, 0, 3, world.log.verify
    )
    assert index == 0
    assert settlement.verdicts() == [0, 0, 0]
    length = sum(len(report) for report in sealed)
    gross = 12 * 10 * 1024 + length * 50
    owner, operator = gross * 8_000 // 10_240_000, gross * 2_000 // 10_240_000
    assert settlement.credits == [
        ("issuance", -owner - operator),
        *sorted([(f"owner:{device.owner_id}", owner), (f"owner:{gateway.owner_id}", operator)]),
    ]
    assert world.balance(device.owner_id) == owner
    assert world.balance(gateway.owner_id) == operator
    assert [place for _, _, place in world.accepted()] == [
        (0, 0, 0, 7, len(sealed[0])),
        (1, 0, 1, 5, len(sealed[1])),
        (2, 0, 2, 0, len(sealed[2])),
    ]
    boot = world.rows(select(BOOTS))[0]
    assert (boot.boot, boot.seq_max, boot.reports, boot.samples, boot.bytes) == (1, 2, 3, 12, length)
    assert (boot.gaps_from, boot.gaps, boot.claim_seq, boot.claim) == (0, None, 2, "[2, 0, 0, 0, null, null]")
    total = world.rows(select(device_totals))[0]
    assert (total.reports, total.samples, total.bytes, total.microcredits) == (3, 12, length, owner)
    stored = world.rows(select(batches))[0]
    assert (stored.envelope, stored.answer, stored.accepted_count, stored.sample_count) == (
        envelope,
        result.answer,
        3,
        12,
    )
    assert world.rows(select(gateways.c.next_seq)) == [(1,)]


def test_dust_is_carried_from_batch_to_batch(world: Any):
    gateway, device = world.gateway(), world.device()
    length = 0
    for _ in range(40):
        sealed = device.next(samples=1)
        length += len(sealed)
        world.send(gateway, sealed)
    gross = 40 * 10 * 1024 + length * 50
    assert world.balance(device.owner_id) == gross * 8_000 // 10_240_000
    assert world.balance(gateway.owner_id) == gross * 2_000 // 10_240_000
    assert world.rows(select(device_totals.c.microcredits)) == [(gross * 8_000 // 10_240_000,)]


def test_an_empty_batch_pays_nothing_and_is_in_the_log(world: Any):
    gateway = world.gateway()
    assert world.send(gateway).credits == []
    assert world.rows(select(transfers)) == []
    assert world.rows(select(batches.c.log_index)) == [(0,)]


@pytest.mark.threat(10)
def test_the_same_batch_twice_gets_the_same_answer_and_pays_once(world: Any, reopen: Any):
    gateway, device = world.gateway(), world.device()
    envelope = gateway.seal([device.next()])
    first = world.submit(gateway, envelope)
    gateway.settled()
    world.send(gateway, device.next())
    before = world.snapshot()
    for backend in (world, reopen(world)):
        again = backend.submit(gateway, envelope)
        assert (again.is_new, again.answer, again.log_index) == (False, first.answer, 0)
        assert again.settlement.credits == first.settlement.credits
    assert world.snapshot() == before


@pytest.mark.threat(10)
def test_other_bytes_under_a_settled_seq_are_refused_and_alarmed(world: Any):
    gateway, device = world.gateway(), world.device()
    world.send(gateway, device.next())
    before = world.snapshot()
    other = gateway.seal([device.next()], seq=0, previous=bytes(32))
    for _ in range(2):
        with pytest.raises(BatchConflict, match=r"batch 0 .* settled with other bytes"):
            world.submit(gateway, other)
    assert world.snapshot() == before
    assert world.rows(select(alarms.c.kind, alarms.c.subject)) == [("batch_conflict", gateway.id)] * 2


@pytest.mark.threat(10)
def test_alarms_about_one_gateway_are_bounded(world: Any):
    gateway, device = world.gateway(), world.device()
    world.send(gateway, device.next())
    other = gateway.seal([], seq=0, previous=bytes(32))
    for _ in range(105):
        with pytest.raises(BatchConflict):
            world.submit(gateway, other)
    kept = world.rows(select(alarms.c.detail))
    assert len(kept) == 100
    assert "not stored" in kept[-1].detail


def test_the_chain_has_no_gap_and_no_fork(world: Any):
    gateway, device = world.gateway(), world.device()
    world.send(gateway, device.next())
    before = world.snapshot()
    with pytest.raises(OutOfOrder) as ahead:
        world.submit(gateway, gateway.seal([], seq=2))
    assert ahead.value.expected_seq == 1
    with pytest.raises(ChainBroken) as broken:
        world.submit(gateway, gateway.seal([], previous=bytes(32)))
    assert broken.value.expected_previous == gateway.previous
    assert world.snapshot() == before
    assert world.rows(select(alarms.c.kind)) == [("chain_broken",)]


def test_a_revoked_or_unknown_gateway_is_refused_also_for_what_it_sent_before(world: Any):
    gateway, device = world.gateway(), world.device()
    envelope = gateway.seal([device.next()])
    world.submit(gateway, envelope)
    with world.database.write() as connection:
        connection.execute(update(gateways).values(status=schema.RETIRED))
    with pytest.raises(GatewayRevoked, match=gateway.id):
        world.submit(gateway, envelope)
    with pytest.raises(GatewayRevoked):
        world.ingest.submit(
            "gaaaaaaaaaaaaaaaa", envelope.replace(gateway.id.encode(), b"gaaaaaaaaaaaaaaaa"), 1
        )


def test_only_the_gateways_own_key_and_name_pass(world: Any):
    gateway, other = world.gateway(), world.gateway()
    before = world.snapshot()
    envelope = gateway.seal([])
    with pytest.raises(BadSignature, match="names"):
        world.ingest.submit(other.id, envelope, 1)
    gateway.seed, right = other.seed, gateway.seed
    with pytest.raises(BadSignature, match="not signed"):
        world.submit(gateway, gateway.seal([]))
    gateway.seed = right
    for position in range(30, len(envelope), 7):
        altered = bytearray(envelope)
        altered[position] ^= 1
        with pytest.raises((BadSignature, MalformedBatch)):
            world.submit(gateway, bytes(altered))
    assert world.snapshot() == before


@pytest.mark.threat(19)
@pytest.mark.parametrize(
    "data", [b"", b"\xd2", bytes(100), b"\xd2\x84" * 1000, b"\x9f" * 500, bytes(BATCH_LEN_MAX + 1)]
)
def test_what_is_no_batch_is_malformed(world: Any, data: bytes):
    with pytest.raises(MalformedBatch):
        world.ingest.submit("gaaaaaaaaaaaaaaaa", data, 1)


@pytest.mark.threat(3)
def test_a_replay_through_another_gateway_is_counted_once(world: Any):
    first, second, device = world.gateway(), world.gateway(), world.device()
    sealed = device.next()
    assert world.verdicts(first, sealed) == ["accepted"]
    paid = world.balance(device.owner_id)
    assert world.verdicts(second, sealed, device.next()) == ["duplicate", "accepted"]
    assert world.verdicts(first, sealed, sealed) == ["duplicate", "duplicate"]
    assert world.balance(device.owner_id) < 2 * paid + 10
    assert [place.seq for _, _, place in world.accepted()] == [0, 1]
    assert [row.detail for row in world.rows(select(rejections).order_by(rejections.c.log_index))] == [
        "accepted before, in batch 0 at 0"
    ] * 3


@pytest.mark.threat(3)
def test_the_same_report_twice_in_one_batch_is_counted_once(world: Any):
    gateway, device = world.gateway(), world.device()
    sealed = device.next()
    assert world.verdicts(gateway, sealed, sealed) == ["accepted", "duplicate"]
    assert world.rows(select(device_totals.c.reports)) == [(1,)]


@pytest.mark.threat(3)
def test_a_replay_after_a_restart_and_behind_a_cache_that_is_wrong_is_counted_once(
    world: Any, monkeypatch: Any
):
    """The device's row has the last word: here the history that is remembered has lost a report."""
    gateway, device = world.gateway(), world.device()
    sealed = device.next()
    world.send(gateway, sealed)
    paid = world.balance(device.owner_id)
    calls = []
    load = Histories.load

    def lossy(self: Histories, *arguments: Any) -> Any:
        calls.append(arguments)
        return {} if len(calls) == 1 else load(self, *arguments)

    monkeypatch.setattr(Histories, "load", lossy)
    assert world.verdicts(gateway, sealed) == ["duplicate"]
    assert len(calls) == 2
    assert world.balance(device.owner_id) == paid


@pytest.mark.threat(3)
def test_a_history_that_is_older_than_the_devices_row_is_read_again(world: Any, monkeypatch: Any):
    gateway, device = world.gateway(), world.device()
    sealed = [device.next() for _ in range(3)]
    world.send(gateway, sealed[0])
    histories = world.ingest._settler.histories
    with world.database.write() as connection:
        root = world.log.head(connection)[0].root
        old = copy.deepcopy(histories.load(connection, [device.id], root)[device.id])
    world.send(gateway, sealed[1])
    calls = []
    load = Histories.load

    def stale(self: Histories, *arguments: Any) -> Any:
        calls.append(arguments)
        found = load(self, *arguments)
        if len(calls) == 1:
            self._loaded = found = {device.id: old}
        return found

    monkeypatch.setattr(Histories, "load", stale)
    assert world.verdicts(gateway, sealed[1], sealed[2]) == ["duplicate", "accepted"]
    assert len(calls) == 2
    assert [place[:3] for _, _, place in world.accepted()] == [(0, 0, 0), (1, 1, 0), (2, 2, 1)]


def test_a_report_that_is_accepted_and_stands_nowhere_is_a_defect_and_stores_nothing(world: Any):
    gateway, device = world.gateway(), world.device()
    sealed = device.next()
    world.send(gateway, sealed)
    with world.database.write() as connection:
        connection.execute(update(device_totals).values(recent=b""))
    before = world.snapshot()
    with pytest.raises(InvariantViolated, match="disagree"):
        world.submit(gateway, gateway.seal([sealed]))
    assert world.snapshot() == before


@pytest.mark.threat(3)
@pytest.mark.parametrize("order", ["rising", "falling", "shuffled"])
def test_a_replay_from_anywhere_in_a_long_boot_is_found_where_it_stands(world: Any, order: str):
    """Long enough for several runs; a clone's report of any number is told from a copy."""
    gateway, device = world.gateway(), world.device()
    numbers = list(range(150))
    if order == "falling":
        numbers.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(numbers)
    sealed = {seq: device.seal(1, seq, samples=1 + seq % 3) for seq in numbers}
    where = {}
    for index, start in enumerate(range(0, len(numbers), 10)):
        part = numbers[start : start + 10]
        assert set(world.verdicts(gateway, *(sealed[seq] for seq in part))) == {"accepted"}
        where.update({seq: (index, position) for position, seq in enumerate(part)})
    assert [place.seq for _, _, place in world.accepted()] == list(range(150))
    assert set(world.verdicts(gateway, *sealed.values())) == {"duplicate"}
    details = world.rows(select(rejections.c.seq, rejections.c.detail))
    assert dict(map(tuple, details)) == {
        seq: f"accepted before, in batch {index} at {position}" for seq, (index, position) in where.items()
    }
    assert world.verdicts(gateway, device.seal(1, 40, samples=9)) == ["equivocation"]


def test_a_jump_within_a_run_is_found_too(world: Any):
    gateway, device = world.gateway(), world.device()
    sealed = [device.seal(1, seq) for seq in (0, 1, 90_000, 2, 600_000, 599_999, *range(600_001, 600_020))]
    world.send(gateway, *sealed)
    assert set(world.verdicts(gateway, *sealed)) == {"duplicate"}
    assert world.verdicts(gateway, device.seal(1, 89_999), device.seal(1, 599_998)) == [
        "too_late",
        "accepted",
    ]


@pytest.mark.threat(8)
def test_a_gateway_can_not_make_usage(world: Any):
    gateway, device, other = world.gateway(), world.device(), world.device()
    genuine = device.next(samples=3)
    forged = device.seal(1, 7, samples=64, key=bytes(32))
    borrowed = bytearray(other.next(samples=3))
    borrowed[8:25] = device.id.encode()
    flipped = bytearray(genuine)
    flipped[60] ^= 1
    stranger = device.seal(1, 9).replace(device.id.encode(), b"daaaaaaaaaaaaaaaa")
    verdicts = world.verdicts(gateway, forged, bytes(borrowed), bytes(flipped), stranger, genuine)
    assert verdicts[0] == verdicts[1] == "bad_mac"
    assert verdicts[2] in ("bad_mac", "malformed")
    assert verdicts[3:] == ["unknown_device", "accepted"]
    assert [place.position for _, _, place in world.accepted()] == [4]
    assert world.rows(select(device_totals.c.samples)) == [(3,)]


@pytest.mark.threat(8)
def test_every_altered_bit_of_a_report_is_refused(world: Any):
    gateway, device = world.gateway(), world.device()
    genuine = device.next(samples=1)
    altered = []
    for position in range(len(genuine)):
        copy = bytearray(genuine)
        copy[position] ^= 1 << position % 8
        altered.append(bytes(copy))
    assert set(world.verdicts(gateway, *altered)) <= {"malformed", "bad_mac", "unknown_device"}
    assert world.accepted() == []
    assert world.balance(device.owner_id) == 0


@pytest.mark.threat(8)
def test_what_a_device_claims_to_have_used_pays_nothing(world: Any):
    gateway, modest, boastful = world.gateway(), world.device(), world.device()
    top = (1 << 53) - 1
    quiet = modest.next(samples=2, usage=Usage(0, 0, 0, 0, 0, 0))
    loud = boastful.next(samples=2, usage=Usage(top, top, top, top, top, top))
    world.send(gateway, quiet, loud)
    totals = {row.device_id: row for row in world.rows(select(device_totals))}
    assert totals[modest.id].samples == totals[boastful.id].samples == 2
    assert totals[boastful.id].bytes == len(loud)
    assert (
        world.balance(boastful.owner_id) - world.balance(modest.owner_id)
        <= (len(loud) - len(quiet)) * 50 // 1024 + 1
    )
    claims = {row.device_id: json.loads(row.claim) for row in world.rows(select(device_totals))}
    assert claims == {modest.id: [0] * 6, boastful.id: [top] * 6}


def test_rejected_reports_are_stored_with_their_reasons(world: Any):
    gateway, device = world.gateway(), world.device()
    wrong_unit = device.seal(1, 0, pack=[make_record("t", "furlong", 1)])
    assert world.verdicts(gateway, b"\x00", b"", wrong_unit) == ["malformed"] * 3
    rows = world.rows(select(rejections).order_by(rejections.c.position))
    assert [row.device_id for row in rows] == [None, None, device.id]
    assert rows[2].detail == "unit not in SenML's registry: furlong"
    assert world.balance(device.owner_id) == 0


def test_a_summary_is_a_claim_and_a_later_copy_is_paid(world: Any):
    owner = world.owner()
    gateway = world.gateway(owner)
    mine, foreign = world.device(owner), world.device()
    kept = mine.next()
    windows = [Window(d.id, "t", "Cel", 0, 60_000, 5, 1, 2.0, 3) for d in (mine, foreign)]
    claims = [Summarised(d.id, 1, [(0, 3), (9, 9)]) for d in (mine, foreign)]
    settlement = world.send(gateway, windows=windows, summarised=claims)
    assert settlement.credits == []
    assert [(row.device_id, row.reports) for row in world.rows(select(summaries))] == [(mine.id, 5)]
    assert world.verdicts(gateway, kept) == ["accepted"]
    assert world.balance(owner) > 0


def test_a_wrong_master_key_decides_nothing(world: Any):
    gateway, device = world.gateway(), world.device()
    envelope = gateway.seal([device.next()])
    before = world.snapshot()

    def refuse(device_id: str, sealed: bytes) -> bytes:
        raise ValueError("does not open")

    with pytest.raises(KeyUnreadable, match=device.id):
        Ingest(world.database, world.log, refuse).submit(gateway.id, envelope, world.now_ms)
    assert world.snapshot() == before
    assert world.submit(gateway, envelope).is_new


@pytest.mark.threat(15)
def test_a_locked_database_stores_nothing_and_the_batch_passes_later(world: Any, database_url: str):
    gateway, device = world.gateway(), world.device()
    envelope = gateway.seal([device.next()])
    before = world.snapshot()
    other = open_engine(database_url)
    with other.write(), pytest.raises(StoreBusy):
        world.submit(gateway, envelope)
    other.close()
    assert world.snapshot() == before
    assert world.submit(gateway, envelope).settlement.verdicts() == [0]


@pytest.mark.threat(15)
def test_a_full_disk_stores_nothing_and_the_batch_passes_later(world: Any):
    gateway, device = world.gateway(), world.device()
    envelope = gateway.seal([device.next(samples=60) for _ in range(300)])
    before = world.snapshot()

    with full_disk(world.database):
        with pytest.raises(StoreFull, match="make room"):
            world.submit(gateway, envelope)
        assert world.snapshot() == before
    assert world.submit(gateway, envelope).settlement.rejections == []


@pytest.mark.threat(11)
@pytest.mark.parametrize(
    "step",
    [
        "store_digests",
        "store_rejections",
        "store_summaries",
        "store_batch",
        "store_executed",
    ],
)
def test_a_crash_at_any_step_stores_nothing_and_the_next_try_is_whole(
    world: Any, monkeypatch: Any, step: str
):
    gateway, device = world.gateway(), world.device()
    world.send(gateway, device.next())
    envelope = gateway.seal([device.next(), b"junk"])
    before = world.snapshot()

    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("power loss")

    with monkeypatch.context() as patch:
        patch.setattr(f"surge_backend.ingest.records.{step}", crash)
        with pytest.raises(RuntimeError, match="power loss"):
            world.submit(gateway, envelope)
    assert world.snapshot() == before
    assert world.submit(gateway, envelope).settlement.verdicts() == [0, 1]
    with world.database.read() as connection:
        assert check_ledger(connection) == []
        assert check_log(connection, world.log.verify) == []


@pytest.mark.threat(13)
def test_a_forked_log_takes_no_batch(world: Any):
    gateway, device = world.gateway(), world.device()
    world.send(gateway, device.next())
    with world.database.write() as connection:
        connection.execute(text("UPDATE log_heads SET root = zeroblob(32) WHERE tree_size = 1"))
    before = world.snapshot()
    with pytest.raises(LogForked):
        world.submit(gateway, gateway.seal([device.next()]))
    assert world.snapshot() == before


@pytest.mark.threat(11)
def test_one_batch_at_several_backends_at_once_makes_one_transfer(world: Any, reopen: Any):
    """Backends with caches of their own on one database; each round the same bytes at all of them."""
    gateway, device = world.gateway(), world.device()
    backends = [reopen(world) for _ in range(4)]
    for backend in backends:
        object.__setattr__(backend.database, "busy_timeout_ms", 60_000)
    for log_index in range(5):
        envelope = gateway.seal([device.next(), device.next()])
        gateway.settled()
        start = threading.Barrier(len(backends))
        results: list[Any] = []

        def submit(backend: Any, envelope: bytes = envelope, start: Any = start, into: Any = results) -> None:
            start.wait()
            while True:
                try:
                    into.append(backend.submit(gateway, envelope))
                    return
                except StoreBusy:  # as its gateway would: the same again
                    continue

        threads = [threading.Thread(target=submit, args=(backend,)) for backend in backends]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(result.is_new for result in results) == [False, False, False, True]
        assert len({result.answer for result in results}) == 1
        assert {result.log_index for result in results} == {log_index}
    assert len(world.rows(select(schema.transfers))) == 5
    assert len(world.accepted()) == 10
    with world.database.read() as connection:
        assert check_ledger(connection) == []
        assert check_log(connection) == []


def test_gateways_in_threads_are_settled_one_after_the_other(world: Any):
    world.database.engine.dispose()
    shared = world.device()
    sealed = [shared.next() for _ in range(8)]
    gateways_ = [world.gateway() for _ in range(4)]
    object.__setattr__(world.database, "busy_timeout_ms", 60_000)
    failures = []

    def forward(gateway: Any) -> None:
        try:
            for start in range(0, 8, 2):
                world.send(gateway, *sealed[start : start + 2])
        except Exception as error:  # shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=forward, args=(gateway,)) for gateway in gateways_]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(world.accepted()) == 8
    assert len(world.rows(select(rejections))) == 24
    with world.database.read() as connection:
        assert check_ledger(connection) == []
        assert check_log(connection, world.log.verify) == []
        assert (
            connection.execute(select(accounts.c.balance).where(accounts.c.id == "issuance")).scalar_one() < 0
        )


def test_a_device_enrolled_while_its_batch_was_read_is_known(world, monkeypatch):
    """Every verdict is as of its place in the log: an auditor finds the enrolment before the batch."""
    gateway, owner_id = world.gateway(), world.owner()
    board = type(world.device(owner_id))
    number = world.made + 1  # what the next device's id and secret are made from
    device = board(make_id(DEVICE, number.to_bytes(10, "big")), number.to_bytes(32, "little"), owner_id)
    read_reports = service.read_reports

    def enrolled_meanwhile(envelopes, known):
        if number not in made:
            made.append(number)
            assert world.device(owner_id).id == device.id
        return read_reports(envelopes, known)

    made: list[int] = []
    monkeypatch.setattr(service, "read_reports", enrolled_meanwhile)
    assert world.verdicts(gateway, device.next()) == ["accepted"]
    assert made == [number]
