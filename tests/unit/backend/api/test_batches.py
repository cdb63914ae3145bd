"""Batches over HTTP: what is settled, what is refused and how, and that all can be proven afterwards."""

import asyncio
import hashlib
import os

import pytest
from databases import KINDS, full_disk
from sqlalchemy import select

from surge_backend.api import problems
from surge_backend.api.intake import OF_ONE_GATEWAY_MAX
from surge_backend.db.schema import batches
from surge_backend.errors import MalformedBatch
from surge_backend.registry.tokens import Role
from surge_wire import ed25519
from surge_wire.limits import BATCH_LEN_MAX
from surge_wire.receipt import (
    open_tree_head,
    verify_consistency_receipt,
    verify_inclusion_receipt,
)
from surge_wire.submission import decode_submission, verify_submission
from surge_wire.verdicts import ACCEPTED, BAD_MAC, DUPLICATE, MALFORMED, UNKNOWN_DEVICE

from .conftest import Device, Gateway, World, is_problem

pytestmark = pytest.mark.parametrize("database_kind", KINDS, indirect=True)


def verify(gateway: Gateway, answer: bytes, report_count: int, seq: int = 0):  # type: ignore[no-untyped-def]
    """What a gateway does with an answer before it forgets a batch."""
    batch_hash = hashlib.sha256(gateway.envelope).digest()
    return verify_submission(
        answer, batch_hash, gateway.gateway_id, seq, report_count, ed25519.verifier(gateway.log_public_key)
    )


async def test_a_batch_is_settled_paid_and_proven(world: World) -> None:
    owner_id, owner = await world.owner("Ada")
    operator_id, operator = await world.owner("Bob")
    gateway = await world.gateway(operator)
    device = await world.device(owner)
    envelope = gateway.batch([device.report() for _ in range(10)])
    answer = await world.post_batch(gateway, envelope)
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/cbor"
    settlement, index, _size, _root = verify(gateway, answer.content, 10)
    assert index == 0
    assert settlement.verdicts() == [ACCEPTED] * 10
    credits = dict(settlement.credits)
    assert set(credits) == {f"owner:{owner_id}", f"owner:{operator_id}", "issuance"}

    accounts = (await world.client.get("/v1/accounts", headers=world.admin)).json()
    assert {a["account_id"]: a["balance_microcredits"] for a in accounts} == credits
    (own,) = (await world.client.get("/v1/accounts", headers=owner)).json()
    assert own["account_id"] == f"owner:{owner_id}"
    assert own["balance_microcredits"] == credits[f"owner:{owner_id}"] > 0

    (transfer,) = (await world.client.get("/v1/transfers", headers=owner)).json()
    assert {leg["account"]: leg["microcredits"] for leg in transfer["legs"]} == credits
    assert transfer["log_index"] == 0
    assert transfer["reference"] == settlement.batch_hash.hex()

    shown = (await world.client.get(f"/v1/devices/{device.device_id}", headers=owner)).json()
    assert shown["totals"]["reports"] == shown["totals"]["samples"] == 10
    stats = (await world.client.get("/v1/stats")).json()
    assert (stats["reports_accepted"], stats["reports_rejected"], stats["tree_size"]) == (10, 0, 1)
    assert stats["credited_microcredits"] == -credits["issuance"]


@pytest.mark.threat(10)
async def test_the_same_batch_again_gets_the_same_bytes(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    envelope = gateway.batch([device.report()])
    first = await world.post_batch(gateway, envelope)
    gateway.move_on()
    await world.settle(gateway, [device.report()])
    again = await world.post_batch(gateway, envelope)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.content == first.content
    assert (await world.client.get("/v1/stats")).json()["tree_size"] == 2


@pytest.mark.threat(10)
async def test_another_batch_under_a_settled_seq_is_refused_and_alarmed(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    assert (await world.post_batch(gateway, gateway.batch([device.report()]))).status_code == 201
    problem = is_problem(
        await world.post_batch(gateway, gateway.batch([device.report()])), 409, "batch_conflict"
    )
    assert problem["seq"] == 0
    (alarm,) = (await world.client.get("/v1/alarms", headers=world.admin)).json()
    assert (alarm["kind"], alarm["subject"]) == ("batch_conflict", gateway.gateway_id)


async def test_a_batch_ahead_of_its_chain_says_which_comes_first(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    problem = is_problem(
        await world.post_batch(gateway, gateway.batch([device.report()], seq=5)), 409, "out_of_order"
    )
    assert problem["expected_seq"] == 0
    assert (await world.client.get("/v1/gateways/self", headers=gateway.auth)).json()["next_batch_seq"] == 0


async def test_a_batch_that_breaks_the_chain_is_refused(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    await world.settle(gateway, [device.report()])
    broken = gateway.batch([device.report()], previous=bytes(32))
    problem = is_problem(await world.post_batch(gateway, broken), 409, "chain_broken")
    me = (await world.client.get("/v1/gateways/self", headers=gateway.auth)).json()
    assert problem["expected_previous"] == me["previous"] == gateway.previous.hex()


@pytest.mark.threat(8)
async def test_wrong_key_or_another_gateways_token(world: World) -> None:
    _, owner = await world.owner()
    gateway, other, device = await world.gateway(owner), await world.gateway(owner), await world.device(owner)
    forged = gateway.batch([device.report()], seed=b"\x77" * 32)
    is_problem(await world.post_batch(gateway, forged), 403, "signature_invalid")
    honest = gateway.batch([device.report()])
    answer = await world.post_batch(other, honest)
    is_problem(answer, 403, "signature_invalid")
    assert (await world.client.get("/v1/stats")).json()["tree_size"] == 0


@pytest.mark.threat(8)
async def test_reports_that_a_gateway_invents_are_not_paid(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    forged = Device(device.device_id, b"\x55" * 32).report()
    stranger = Device("dzzzzzzzzzzzzzzzz", b"\x55" * 32).report()
    good = device.report()
    answer = await world.settle(gateway, [forged, stranger, b"\x00junk", good, good])
    settlement, *_ = verify(gateway, answer.content, 5)
    assert settlement.verdicts() == [BAD_MAC, UNKNOWN_DEVICE, MALFORMED, ACCEPTED, DUPLICATE]
    verdicts = (await world.client.get(f"/v1/devices/{device.device_id}/verdicts", headers=owner)).json()
    assert verdicts["accepted"] == 1
    assert verdicts["rejections"][0]["verdict"] == "duplicate"
    assert verdicts["rejected"]["duplicate"] == 1
    line = next(line for line in world.logs.getvalue().splitlines() if "reports_rejected" in line)
    assert all(said in line for said in ("bad_mac=1", "duplicate=1", gateway.gateway_id))
    assert "accepted" not in line


@pytest.mark.threat(3)
async def test_a_replay_through_another_gateway_is_counted_once(world: World) -> None:
    _, owner = await world.owner()
    first, second, device = await world.gateway(owner), await world.gateway(owner), await world.device(owner)
    report = device.report()
    await world.settle(first, [report])
    settlement, *_ = verify(second, (await world.settle(second, [report])).content, 1)
    assert settlement.verdicts() == [DUPLICATE]
    assert settlement.credits == []


@pytest.mark.threat(25)
async def test_a_revoked_gateway_is_refused_at_once(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    await world.settle(gateway, [device.report()])
    path = f"/v1/gateways/{gateway.gateway_id}/revoke"
    assert (await world.client.post(path, headers=owner)).status_code == 204
    envelope = gateway.batch([device.report()])
    is_problem(await world.post_batch(gateway, envelope), 401, "unauthenticated")
    late = world.token(Role.GATEWAY, gateway.gateway_id)
    answer = await world.client.post(
        "/v1/batches", content=envelope, headers=late | {"Content-Type": "application/cose"}
    )
    is_problem(answer, 403, "gateway_revoked")


@pytest.mark.parametrize("content_type", ["application/cbor", "application/json", "", "text/plain"])
async def test_another_content_type(world: World, content_type: str) -> None:
    _, owner = await world.owner()
    gateway = await world.gateway(owner)
    answer = await world.post_batch(gateway, b"x", **{"Content-Type": content_type})
    assert is_problem(answer, 415, "unsupported_media_type")["remedy"] == "set Content-Type: application/cose"


@pytest.mark.threat(19)
async def test_bytes_that_are_no_batch(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    whole = gateway.batch([device.report()])
    for content in (
        b"",
        b"\x00",
        os.urandom(64),
        whole[:-1],
        whole + b"\x00",
        b"\xd1" + whole[1:],
        b"\x9f" * 10_000,
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x81" * 100_000,
    ):
        is_problem(await world.post_batch(gateway, content), 422, "batch_malformed")
    flipped = bytearray(whole)
    flipped[100] ^= 1
    is_problem(await world.post_batch(gateway, bytes(flipped)), 403, "signature_invalid")


@pytest.mark.threat(19)
async def test_an_oversize_batch_is_refused_before_it_is_read(world: World) -> None:
    _, owner = await world.owner()
    gateway = await world.gateway(owner)
    is_problem(await world.post_batch(gateway, bytes(BATCH_LEN_MAX + 1)), 413, "too_large")
    is_problem(await world.post_batch(gateway, bytes(BATCH_LEN_MAX)), 422, "batch_malformed")


@pytest.mark.threat(15)
async def test_a_full_disk_is_503_shows_in_health_and_heals(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    envelope = gateway.batch([device.report()])
    with full_disk(world.services.database):
        answer = await world.post_batch(gateway, envelope)
        is_problem(answer, 503, "store_full")
        assert answer.headers["retry-after"]
        health = await world.client.get("/healthz")
        assert health.status_code == 503
        assert "store_full" in health.json()["database"]["detail"]
    assert (await world.post_batch(gateway, envelope)).status_code == 201
    assert (await world.client.get("/healthz")).status_code == 200


async def test_too_many_waiting_batches_are_turned_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    envelope = gateway.batch([device.report()])
    monkeypatch.setattr(world.services.intake, "_waiting_max", 0)
    is_problem(await world.post_batch(gateway, envelope), 503, "overloaded")
    monkeypatch.undo()
    assert (await world.post_batch(gateway, envelope)).status_code == 201


@pytest.mark.threat(18)
async def test_one_gateway_cant_keep_the_others_out(world: World) -> None:
    """However many batches it begins to send, and however slowly: the honest one's is settled meanwhile."""
    _, owner = await world.owner()
    flooding, honest = await world.gateway(owner), await world.gateway(owner)
    device = await world.device(owner)
    intake = world.services.intake
    release = asyncio.Event()

    async def slow_body() -> bytes:
        await release.wait()
        return b"no batch"

    flood = [asyncio.create_task(intake.submit(flooding.gateway_id, slow_body)) for _ in range(40)]
    reading = set(flood)
    async with asyncio.timeout(60):  # only so that a failing test ends
        while len(reading) > OF_ONE_GATEWAY_MAX:
            _, reading = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
    done = set(flood) - reading
    refused = {task.exception().kind for task in done}  # type: ignore[union-attr]
    assert (len(done), refused) == (40 - OF_ONE_GATEWAY_MAX, {problems.OVERLOADED})
    assert (await world.post_batch(honest, honest.batch([device.report()]))).status_code == 201
    release.set()
    ended = await asyncio.gather(*reading, return_exceptions=True)
    assert [type(error) for error in ended] == [MalformedBatch] * OF_ONE_GATEWAY_MAX
    assert intake.waiting == 0


async def test_a_batch_can_be_fetched_by_who_may(world: World) -> None:
    _, owner = await world.owner()
    gateway, other, device = await world.gateway(owner), await world.gateway(owner), await world.device(owner)
    envelope = gateway.batch([device.report()])
    assert (await world.post_batch(gateway, envelope)).status_code == 201
    path = f"/v1/batches/{hashlib.sha256(gateway.envelope).hexdigest()}"
    for token in (world.admin, gateway.auth):
        answer = await world.client.get(path, headers=token)
        assert answer.content == envelope
        assert answer.headers["content-type"] == "application/cose"
    is_problem(await world.client.get(path, headers=other.auth), 404, "not_found")
    with world.services.database.read() as connection:
        assert connection.execute(select(batches.c.envelope)).scalar_one() == envelope


# --- the log ----------------------------------------------------------------------------------------------


async def test_the_log_proves_every_entry_and_every_growth(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    key = (await world.client.get("/v1/log/key")).json()
    check = ed25519.verifier(gateway.log_public_key)
    assert key["log_id"] == hashlib.sha256(gateway.log_public_key).hexdigest()[:32]
    heads = [open_tree_head((await world.client.get("/v1/log/head")).content, check)]
    entries = []
    for _ in range(5):
        answer = await world.settle(gateway, [device.report()])
        entries.append(decode_submission(answer.content)[0])
        heads.append(open_tree_head((await world.client.get("/v1/log/head")).content, check))
    assert [head.tree_size for head in heads] == list(range(6))
    for index, entry in enumerate(entries):
        assert (await world.client.get(f"/v1/log/entries/{index}")).content == entry
        for size in range(index + 1, 6):
            receipt = await world.client.get(f"/v1/log/inclusion/{index}", params={"tree_size": size})
            assert receipt.headers["content-type"] == "application/cose"
            found = verify_inclusion_receipt(receipt.content, entry, check)
            assert found == (index, size, heads[size].root)
    for first in range(6):
        for second in range(first, 6):
            receipt = await world.client.get("/v1/log/consistency", params={"from": first, "to": second})
            found = verify_consistency_receipt(receipt.content, heads[first].root, heads[second].root, check)
            assert found == (first, second)
    earlier = await world.client.get("/v1/log/head", params={"tree_size": 2})
    assert open_tree_head(earlier.content, check).root == heads[2].root


async def test_the_log_as_json(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    await world.settle(gateway, [device.report(), b"junk"])
    wanted = {"Accept": "application/json"}
    head = (await world.client.get("/v1/log/head", headers=wanted)).json()
    assert head["tree_size"] == 1
    entry = (await world.client.get("/v1/log/entries/0", headers=wanted)).json()
    assert (entry["index"], entry["report_count"], entry["accepted_count"]) == (0, 2, 1)
    assert entry["rejections"] == [{"position": 1, "verdict": "malformed"}]
    assert sum(leg["microcredits"] for leg in entry["credits"]) == 0


@pytest.mark.parametrize(
    "path",
    [
        "/v1/log/entries/0",
        "/v1/log/inclusion/0",
        "/v1/log/inclusion/0?tree_size=1",
        "/v1/log/consistency?from=1",
        "/v1/log/consistency?from=0&to=9",
        "/v1/log/head?tree_size=1",
    ],
)
async def test_what_the_log_does_not_have(world: World, path: str) -> None:
    is_problem(await world.client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/log/entries/-1",
        "/v1/log/entries/x",
        f"/v1/log/entries/{1 << 70}",
        "/v1/log/consistency",
        "/v1/log/consistency?from=-1",
        f"/v1/log/inclusion/0?tree_size={1 << 64}",
    ],
)
async def test_numbers_that_are_none(world: World, path: str) -> None:
    is_problem(await world.client.get(path), 422, "invalid")


@pytest.mark.threat(13)
async def test_a_log_that_was_tampered_with_signs_nothing_more(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    for _ in range(3):
        await world.settle(gateway, [device.report()])
    with world.services.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM log_heads WHERE tree_size = 3")
        connection.exec_driver_sql("DELETE FROM log_nodes WHERE level = 0 AND idx = 2")
        connection.exec_driver_sql("DELETE FROM batches WHERE log_index = 2")
    gateway.next_seq, gateway.previous = 3, gateway.previous
    answer = await world.post_batch(gateway, gateway.batch([device.report()]))
    is_problem(answer, 503, "log_stopped")
    health = await world.client.get("/healthz")
    assert health.status_code == 503
    assert health.json()["log"]["ok"] is False
    assert (await world.client.get("/v1/log/head")).status_code == 200  # reading goes on
