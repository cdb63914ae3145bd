"""Owners, tokens, enrolment, gateways, devices, ledger, telemetry: what each resource answers."""

import pytest
from databases import KINDS

from surge_backend.api.fields import decode_base64url, encode_base64url
from surge_backend.settings import TelemetrySettings
from surge_wire import ed25519
from surge_wire.command import SAMPLE_NOW, open_command
from surge_wire.hkdf import INFO_COMMAND, derive_key
from surge_wire.senml import make_record

from .conftest import World, bearer, is_problem

pytestmark = pytest.mark.parametrize("database_kind", KINDS, indirect=True)

KEY = encode_base64url(ed25519.public_key(b"\x42" * 32))


# --- tokens -----------------------------------------------------------------------------------------------


async def test_an_owner_makes_tokens_for_itself_and_its_gateways_only(world: World) -> None:
    ada, owner = await world.owner("Ada")
    bob, other = await world.owner("Bob")
    gateway, foreign = await world.gateway(owner), await world.gateway(other)

    async def make(token: dict[str, str], **body: object) -> object:
        return await world.client.post("/v1/tokens", json={"label": "x"} | body, headers=token)

    own = await make(owner, role="owner")
    assert own.status_code == 201
    assert own.json()["expires_ms"] is None
    mine = await world.client.get("/v1/accounts", headers=bearer(own.json()["token"]))
    assert [account["owner_id"] for account in mine.json()] == [ada]
    for_gateway = await make(owner, role="gateway", subject_id=gateway.gateway_id, expires_in_s=60)
    me = await world.client.get("/v1/gateways/self", headers=bearer(for_gateway.json()["token"]))
    assert me.json()["gateway_id"] == gateway.gateway_id
    world.clock.advance(60)
    gone = await world.client.get("/v1/gateways/self", headers=bearer(for_gateway.json()["token"]))
    is_problem(gone, 401, "unauthenticated")

    is_problem(await make(owner, role="owner", subject_id=bob), 403, "forbidden")
    is_problem(await make(owner, role="gateway", subject_id=foreign.gateway_id), 404, "not_found")
    is_problem(await make(owner, role="admin"), 403, "forbidden")
    is_problem(await make(owner, role="auditor"), 403, "forbidden")
    is_problem(await make(owner, role="gateway"), 422, "invalid")
    is_problem(await make(world.admin, role="owner"), 404, "not_found")
    is_problem(await make(world.admin, role="auditor", subject_id=ada), 422, "invalid")
    is_problem(await make(world.admin, role="root"), 422, "invalid")
    is_problem(await make(world.admin, role="owner", subject_id=ada, expires_in_s=0), 422, "invalid")
    assert (await make(world.admin, role="auditor")).status_code == 201
    assert (await make(world.admin, role="owner", subject_id=bob)).status_code == 201


@pytest.mark.threat(25)
async def test_a_revoked_token_is_over_at_once_and_lists_hold_no_token(world: World) -> None:
    _, owner = await world.owner()
    made = (await world.client.post("/v1/tokens", json={"role": "owner", "label": "x"}, headers=owner)).json()
    listed = await world.client.get("/v1/tokens", headers=owner)
    assert made["token_id"] in {token["token_id"] for token in listed.json()}
    assert made["token"] not in listed.text
    assert "hash" not in listed.text
    path = f"/v1/tokens/{made['token_id']}"
    assert (await world.client.delete(path, headers=owner)).status_code == 204
    assert (await world.client.delete(path, headers=owner)).status_code == 204
    answer = await world.client.get("/v1/devices", headers=bearer(made["token"]))
    is_problem(answer, 401, "unauthenticated")


async def test_owners_are_listed_in_pages(world: World) -> None:
    made = sorted([(await world.owner(name))[0] for name in ("Ada", "Bob", "Cid")])
    first = (await world.client.get("/v1/owners", params={"limit": 2}, headers=world.admin)).json()
    after = first[-1]["owner_id"]
    rest = (await world.client.get("/v1/owners", params={"after_id": after}, headers=world.admin)).json()
    assert [owner["owner_id"] for owner in first + rest] == made
    for limit in (0, 1001):
        answer = await world.client.get("/v1/owners", params={"limit": limit}, headers=world.admin)
        is_problem(answer, 422, "invalid")


# --- enrolment ----------------------------------------------------------------------------------------------


@pytest.mark.threat(2)
async def test_a_device_token_is_spent_once(world: World) -> None:
    _, owner = await world.owner()
    token = await world.enrolment(owner)

    async def enrol(secret: str) -> object:
        return await world.client.post("/v1/devices", json={"secret": secret, "board": "x"}, headers=token)

    first = await enrol("A" * 43)
    again = await enrol("A" * 43)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    problem = is_problem(await enrol("B" * 42 + "A"), 409, "enrolment_used")
    assert "stays" in problem["remedy"]
    is_problem(
        await world.client.post("/v1/gateways", json={"public_key": KEY}, headers=token),
        401,
        "unauthenticated",
    )
    world.clock.advance(4_000)
    expired = await world.enrolment(owner, expires_in_s=1)
    world.clock.advance(1)
    answer = await world.client.post("/v1/devices", json={"secret": "A" * 43, "board": "x"}, headers=expired)
    is_problem(answer, 401, "unauthenticated")


@pytest.mark.threat(2)
async def test_a_gateway_token_is_spent_once(world: World) -> None:
    _, owner = await world.owner()
    token = await world.enrolment(owner, "gateway")

    async def enrol(key: str) -> object:
        return await world.client.post("/v1/gateways", json={"public_key": key}, headers=token)

    first, again = await enrol(KEY), await enrol(KEY)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["gateway_id"] == again.json()["gateway_id"]
    assert decode_base64url(first.json()["log_public_key"]) == world.services.log.public_key
    old = await world.client.get("/v1/gateways/self", headers=bearer(first.json()["token"]))
    is_problem(old, 401, "unauthenticated")
    new = await world.client.get("/v1/gateways/self", headers=bearer(again.json()["token"]))
    assert new.json()["previous"] == "0" * 64
    other = encode_base64url(ed25519.public_key(b"\x43" * 32))
    is_problem(await enrol(other), 409, "enrolment_used")


@pytest.mark.parametrize(
    "key", ["A" * 42, "A" * 44, "A" * 42 + "B", "A" * 42 + "+", "/" * 42 + "A", "", 7, None]
)
async def test_keys_that_are_none(world: World, key: object) -> None:
    _, owner = await world.owner()
    token = await world.enrolment(owner, "gateway")
    answer = await world.client.post("/v1/gateways", json={"public_key": key}, headers=token)
    is_problem(answer, 422, "invalid")


async def test_a_point_that_is_not_on_the_curve_is_no_key(world: World) -> None:
    _, owner = await world.owner()
    token = await world.enrolment(owner, "gateway")
    key = encode_base64url(b"\x02" + bytes(31))
    is_problem(
        await world.client.post("/v1/gateways", json={"public_key": key}, headers=token), 422, "invalid"
    )


async def test_who_may_enrol_for_whom(world: World) -> None:
    ada, owner = await world.owner("Ada")
    bob, other = await world.owner("Bob")
    gateway = await world.gateway(other)

    async def make(token: dict[str, str], **body: object) -> object:
        fields = {"kind": "device", "name": "x"} | body
        return await world.client.post("/v1/enrolments", json=fields, headers=token)

    assert (await make(owner, owner_id=ada)).status_code == 201
    is_problem(await make(owner, owner_id=bob), 403, "forbidden")
    is_problem(await make(world.admin), 422, "invalid")
    is_problem(await make(world.admin, owner_id="o" + "z" * 16), 404, "not_found")
    assert (await make(world.admin, owner_id=bob)).status_code == 201
    # on another owner's gateway: that is how devices meet gateways that they don't own
    assert (await make(owner, gateway_id=gateway.gateway_id)).status_code == 201
    is_problem(await make(owner, gateway_id="g" + "z" * 16), 404, "not_found")
    is_problem(await make(owner, kind="gateway", gateway_id=gateway.gateway_id), 422, "invalid")
    is_problem(await make(owner, expires_in_s=31 * 86_400), 422, "invalid")


# --- gateways and devices -----------------------------------------------------------------------------------


async def test_a_gateway_follows_its_devices(world: World) -> None:
    _, owner = await world.owner()
    gateway = await world.gateway(owner)
    devices = [await world.device(owner) for _ in range(3)]

    async def changes(**parameters: int) -> dict[str, object]:
        path = "/v1/gateways/self/devices"
        return (await world.client.get(path, params=parameters, headers=gateway.auth)).json()

    first = await changes(limit=2)
    assert (first["more"], len(first["devices"])) == (True, 2)
    rest = await changes(after_revision=first["revision"])
    ids = [change["device_id"] for change in first["devices"] + rest["devices"]]
    assert ids == [device.device_id for device in devices]
    assert rest["devices"][0]["mqtt_bcrypt"].startswith("$2b$")
    assert rest["devices"][0]["mqtt_pbkdf2_sha512"].startswith("$7$")
    nothing = await changes(after_revision=rest["revision"])
    assert nothing == {"revision": rest["revision"], "more": False, "devices": []}
    path = f"/v1/devices/{devices[0].device_id}/retire"
    assert (await world.client.post(path, json={"reason": "sold"}, headers=owner)).status_code == 204
    (change,) = (await changes(after_revision=rest["revision"]))["devices"]
    assert (change["device_id"], change["status"]) == (devices[0].device_id, "retired")


async def test_devices_are_shown_without_secrets(world: World) -> None:
    ada, owner = await world.owner()
    device = await world.device(owner)
    answer = await world.client.get("/v1/devices", headers=owner)
    (shown,) = answer.json()
    assert shown == (await world.client.get(f"/v1/devices/{device.device_id}", headers=owner)).json()
    assert (shown["owner_id"], shown["status"], shown["totals"]["reports"]) == (ada, "active", 0)
    assert encode_base64url(device.secret) not in answer.text
    assert "$2b$" not in answer.text
    retired = await world.client.get("/v1/devices", params={"status": "retired"}, headers=owner)
    assert retired.json() == []
    is_problem(await world.client.get("/v1/devices/dnone", headers=owner), 422, "invalid")
    is_problem(await world.client.get("/v1/devices/d" + "z" * 16, headers=owner), 404, "not_found")


async def test_a_retired_device_is_not_paid(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    path = f"/v1/devices/{device.device_id}"
    await world.client.post(path + "/retire", json={"reason": "sold"}, headers=owner)
    await world.settle(gateway, [device.report()])
    verdicts = (await world.client.get(path + "/verdicts", headers=owner)).json()
    assert (verdicts["accepted"], verdicts["rejected"]) == (0, {"device_retired": 1})
    is_problem(
        await world.client.post(path + "/commands", json={"operation": "restart"}, headers=owner),
        409,
        "conflict",
    )
    is_problem(
        await world.client.post(path + "/unfreeze", json={"reason": "x"}, headers=world.admin),
        409,
        "conflict",
    )


async def test_commands(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    path = f"/v1/devices/{device.device_id}/commands"

    async def send(**body: object) -> object:
        return await world.client.post(path, json=body, headers=owner)

    made = await send(operation="sample_now", expires_in_s=60)
    assert made.json()["expires_ms"] == world.clock.now_ms + 60_000
    (waiting,) = (await world.client.get("/v1/gateways/self/commands", headers=gateway.auth)).json()[
        "commands"
    ]
    opened = open_command(
        decode_base64url(waiting["envelope"]), device.device_id, derive_key(device.secret, INFO_COMMAND)
    )
    assert (opened.counter, opened.operation, opened.arguments) == (1, SAMPLE_NOW, None)
    assert (await send(operation="set_report_interval", arguments={"seconds": 5})).status_code == 201
    for wrong in (
        {"operation": "explode"},
        {"operation": "set_report_interval"},
        {"operation": "set_report_interval", "arguments": {"seconds": 0}},
        {"operation": "set_report_interval", "arguments": {"seconds": 86_401}},
        {"operation": "set_report_interval", "arguments": {"seconds": 5, "x": 1}},
        {"operation": "restart", "arguments": {"now": 1}},
        {"operation": "restart", "expires_in_s": 0},
    ):
        is_problem(await send(**wrong), 422, "invalid")
    for _ in range(14):
        assert (await send(operation="restart")).status_code == 201
    is_problem(await send(operation="restart"), 409, "limit_reached")
    await world.settle(gateway, [device.report(command_counter=2)])
    listed = (await world.client.get(path, headers=owner)).json()
    assert [(c["counter"], c["executed"]) for c in listed[-3:]] == [(3, False), (2, True), (1, True)]
    assert listed[-1]["operation"] == "sample_now"


async def test_rejections_come_in_pages(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    report = device.report()
    for _ in range(3):
        await world.settle(gateway, [report, report])
    path = f"/v1/devices/{device.device_id}/verdicts"
    first = (await world.client.get(path, params={"limit": 2}, headers=owner)).json()
    before = first["rejections"][-1]["id"]
    assert first["next_before"] == before
    rest = (await world.client.get(path, params={"before": before}, headers=owner)).json()
    assert rest["next_before"] is None
    assert [r["id"] for r in first["rejections"] + rest["rejections"]] == ["2.1", "2.0", "1.1", "1.0", "0.1"]
    assert first["accepted"] == 1
    assert (first["rejected"], first["rejected_complete"]) == ({"duplicate": 5}, True)
    assert all(r["proven"] for r in first["rejections"])
    for before in ("x", "1", "1.2.3", "-1.0", "9" * 30 + ".1"):
        is_problem(await world.client.get(path, params={"before": before}, headers=owner), 422, "invalid")


async def test_gaps_over_boots(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    await world.settle(gateway, [device.report(seq=seq) for seq in (0, 1, 4)])
    await world.settle(gateway, [device.report(boot=2, seq=0, previous_end=6), device.report(boot=2, seq=2)])
    boots = (await world.client.get(f"/v1/devices/{device.device_id}/gaps", headers=owner)).json()["boots"]
    assert [(b["boot"], b["seq_max"], b["declared_end"], b["received"]) for b in boots] == [
        (2, 2, None, 2),
        (1, 4, 6, 3),
    ]
    assert [(b["missing_count"], b["missing_complete"], b["missing"]) for b in boots] == [
        (1, True, [{"first": 1, "last": 1, "state": "missing"}]),
        (
            3,
            True,
            [{"first": 2, "last": 3, "state": "missing"}, {"first": 5, "last": 5, "state": "missing"}],
        ),
    ]
    assert boots[0]["claim"] is None
    path = f"/v1/devices/{device.device_id}/gaps"
    older = (await world.client.get(path, params={"before_boot": 2}, headers=owner)).json()["boots"]
    assert older == boots[1:]


# --- ledger -------------------------------------------------------------------------------------------------


async def test_transfers_come_in_pages_and_only_ones_own(world: World) -> None:
    ada, owner = await world.owner("Ada")
    _, other = await world.owner("Bob")
    gateway, device = await world.gateway(owner), await world.device(owner)
    for _ in range(3):
        await world.settle(gateway, [device.report()])
    everything = (await world.client.get("/v1/transfers", headers=world.admin)).json()
    assert [transfer["log_index"] for transfer in everything] == [2, 1, 0]
    assert all(sum(leg["microcredits"] for leg in transfer["legs"]) == 0 for transfer in everything)
    assert (await world.client.get("/v1/transfers", headers=owner)).json() == everything
    assert (await world.client.get("/v1/transfers", headers=other)).json() == []
    page = {"limit": 1, "before": everything[0]["ordinal"], "account": f"owner:{ada}"}
    assert (await world.client.get("/v1/transfers", params=page, headers=owner)).json() == [everything[1]]
    foreign = await world.client.get("/v1/transfers", params={"account": f"owner:{ada}"}, headers=other)
    assert foreign.json() == []
    is_problem(await world.client.get("/v1/transfers", params={"limit": 101}, headers=owner), 422, "invalid")


async def test_an_owners_account_is_there_from_the_start(world: World) -> None:
    ada, owner = await world.owner("Ada")
    account = (await world.client.get(f"/v1/accounts/owner:{ada}", headers=owner)).json()
    assert (account["balance_microcredits"], account["held_microcredits"], account["kind"]) == (0, 0, "owner")
    is_problem(await world.client.get("/v1/accounts/issuance", headers=owner), 404, "not_found")
    assert (await world.client.get("/v1/accounts/issuance", headers=world.admin)).status_code == 200


async def test_a_tariff_is_added_never_edited(world: World) -> None:
    (first,) = (await world.client.get("/v1/tariffs")).json()
    assert (first["version"], first["sample_microcredits"], first["gateway_share_bp"]) == (1, 10, 2000)
    body = {"sample_microcredits": 20, "kib_microcredits": 0, "gateway_share_bp": 0}
    second = await world.client.post("/v1/tariffs", json=body, headers=world.admin)
    assert (second.status_code, second.json()["version"]) == (201, 2)
    past = body | {"valid_from_ms": world.clock.now_ms - 1}
    is_problem(await world.client.post("/v1/tariffs", json=past, headers=world.admin), 409, "conflict")
    for wrong in (
        body | {"gateway_share_bp": 10_001},
        body | {"sample_microcredits": -1},
        body | {"sample_microcredits": 1.5},
        body | {"kib_microcredits": 10**12},
    ):
        is_problem(await world.client.post("/v1/tariffs", json=wrong, headers=world.admin), 422, "invalid")
    assert [tariff["version"] for tariff in (await world.client.get("/v1/tariffs")).json()] == [2, 1]


# --- telemetry ----------------------------------------------------------------------------------------------


async def test_telemetry_is_projected_and_queried(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    await world.settle(gateway, [device.report(float(i)) for i in range(4)])
    assert world.services.projector.stats.lag == 1
    await world.services.projector.catch_up()
    stats = (await world.client.get("/v1/stats")).json()
    assert (stats["telemetry_lag"], stats["telemetry_points"]) == (0, 4)
    path = f"/v1/devices/{device.device_id}/telemetry"
    answer = (await world.client.get(path, headers=owner)).json()
    assert sorted(sample["value"] for sample in answer["samples"]) == [0.0, 1.0, 2.0, 3.0]
    assert answer["more"] is False
    assert int(answer["samples"][0]["time_ns"]) // 1_000_000 == answer["samples"][0]["time_ms"]
    cut = (await world.client.get(path, params={"limit": 2}, headers=owner)).json()
    assert (len(cut["samples"]), cut["more"]) == (2, True)
    windows = {"window_ms": 3_600_000, "aggregate": "max", "name": "temperature"}
    (window,) = (await world.client.get(path, params=windows, headers=owner)).json()["samples"]
    assert window["value"] == 3.0
    (latest,) = (await world.client.get(path + "/latest", headers=owner)).json()
    assert latest["unit"] == "Cel"
    for wrong in (
        {"window_ms": 1},
        {"aggregate": "mean"},
        {"aggregate": "median", "window_ms": 1000},
        {"from_ms": 5},
        {"from_ms": 1_800_000_000_000, "to_ms": 1_700_000_000_000},
        {"name": "a b"},
        {"limit": 10_001},
        {"window_ms": 1, "aggregate": "mean", "from_ms": 1_000_000_000_000},
    ):
        is_problem(await world.client.get(path, params=wrong, headers=owner), 422, "invalid")


# --- pages and description ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_pages_load_nothing_from_elsewhere(world: World, path: str) -> None:
    page = await world.client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text.replace("</", "")
    for part in ("surge.css", "index.js", "docs.js", "docs.css", "surge.svg"):
        found = await world.client.get(f"/pages/{part}")
        assert found.status_code == 200
        assert "http" not in found.text.replace("http://www.w3.org/2000/svg", "")
    for part in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert len((await world.client.get(f"/pages/{part}")).content) > 100_000


async def test_every_route_is_described_with_its_errors(world: World) -> None:
    description = (await world.client.get("/openapi.json")).json()
    assert "HTTPValidationError" not in str(description)
    tags = {tag["name"] for tag in description["tags"]}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            assert set(operation["tags"]) <= tags, where
            assert "429" in operation["responses"], where
            problem = operation["responses"]["422"]["content"]
            assert list(problem) == ["application/problem+json"], where
            if operation["security"]:
                assert "401" in operation["responses"], where
    assert description["components"]["schemas"]["Problem"]["required"] == ["type", "title", "status", "code"]


async def test_metrics_show_batches_and_reports(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    await world.settle(gateway, [device.report(), b"junk"])
    await world.post_batch(gateway, b"junk")
    text = (await world.client.get("/metrics")).text
    assert 'surge_batches_total{outcome="settled"} 1.0' in text
    assert 'surge_batches_total{outcome="batch_malformed"} 1.0' in text
    assert 'surge_reports_total{verdict="accepted"} 1.0' in text
    assert 'surge_reports_total{verdict="malformed"} 1.0' in text
    assert "surge_telemetry_lag_batches 1.0" in text


@pytest.mark.threat(18)
async def test_what_telemetry_leaves_out_is_measured(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    limit = TelemetrySettings().series_per_device_max
    for start in range(0, limit + 10, 50):
        pack = [make_record(f"n{start + i}", "Cel", 1.0) for i in range(50)]
        await world.settle(gateway, [device.report(pack=pack)])
    await world.settle(gateway, [device.report(pack=[{0: "n" * 64, 1: "J", 5: 7}])])
    await world.services.projector.catch_up()
    text = (await world.client.get("/metrics")).text
    assert f"surge_telemetry_points_written {float(limit)}" in text
    assert 'surge_telemetry_points_left_out_total{reason="series_limit"} 44.0' in text
    assert 'surge_telemetry_points_left_out_total{reason="unfit"} 1.0' in text
    assert "surge_telemetry_points_rejected 0.0" in text
