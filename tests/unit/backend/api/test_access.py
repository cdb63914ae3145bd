"""Deny by default: every route, with every kind of token, has an expected outcome, and there is no other
route.

The table below is written by hand on purpose: it must disagree with the code when the code is wrong.
"""

import re

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from surge_backend.api.application import make_api
from surge_backend.api.guard import PUBLIC
from surge_backend.api.guard import bearer as for_roles
from surge_backend.api.routes import Routes, UnguardedRouteError, check_guarded, guard_of
from surge_backend.registry.tokens import Role, make_bearer_token, make_enrolment_token

from .conftest import World, is_problem

ADMIN, OWNER, GATEWAY, AUDITOR = "admin", "owner", "gateway", "auditor"
READERS = {ADMIN, OWNER, AUDITOR}
OWNERS = {ADMIN, OWNER}
EVERYONE = None
ENROLMENT = "enrolment"

TABLE = {
    "POST /v1/owners": {ADMIN},
    "GET /v1/owners": {ADMIN},
    "POST /v1/tokens": OWNERS,
    "GET /v1/tokens": OWNERS,
    "DELETE /v1/tokens/{token_id}": OWNERS,
    "POST /v1/enrolments": OWNERS,
    "POST /v1/devices": ENROLMENT,
    "POST /v1/gateways": ENROLMENT,
    "GET /v1/gateways": READERS,
    "POST /v1/gateways/{gateway_id}/revoke": OWNERS,
    "GET /v1/gateways/self": {GATEWAY},
    "GET /v1/gateways/self/devices": {GATEWAY},
    "GET /v1/gateways/self/commands": {GATEWAY},
    "POST /v1/batches": {GATEWAY},
    "GET /v1/batches/{batch_hash}": {ADMIN, AUDITOR, GATEWAY},
    "GET /v1/devices": READERS,
    "GET /v1/devices/{device_id}": READERS,
    "POST /v1/devices/{device_id}/retire": OWNERS,
    "POST /v1/devices/{device_id}/unfreeze": {ADMIN},
    "POST /v1/devices/{device_id}/commands": OWNERS,
    "GET /v1/devices/{device_id}/commands": READERS,
    "GET /v1/devices/{device_id}/verdicts": READERS,
    "GET /v1/devices/{device_id}/gaps": READERS,
    "GET /v1/devices/{device_id}/telemetry": READERS,
    "GET /v1/devices/{device_id}/telemetry/latest": READERS,
    "GET /v1/accounts": READERS,
    "GET /v1/accounts/{account_id}": READERS,
    "GET /v1/transfers": READERS,
    "GET /v1/alarms": {ADMIN, AUDITOR},
    "GET /v1/tariffs": EVERYONE,
    "POST /v1/tariffs": {ADMIN},
    "GET /v1/log/key": EVERYONE,
    "GET /v1/log/head": EVERYONE,
    "GET /v1/log/inclusion/{index}": EVERYONE,
    "GET /v1/log/consistency": EVERYONE,
    "GET /v1/log/entries/{index}": EVERYONE,
    "GET /v1/log/export": EVERYONE,
    "GET /v1/export": {ADMIN, AUDITOR},
    "GET /v1/stats": EVERYONE,
    "GET /healthz": EVERYONE,
    "GET /metrics": EVERYONE,
    "GET /openapi.json": EVERYONE,
    "GET /": EVERYONE,
    "GET /docs": EVERYONE,
    "GET /pages/{name}": EVERYONE,
}
# Routes where an owner's token meets things of another owner: it gets 404, as if they weren't there.
OF_AN_OWNER = {name for name, allowed in TABLE.items() if "{device_id}" in name and allowed != {ADMIN}} | {
    "POST /v1/gateways/{gateway_id}/revoke",
    "GET /v1/accounts/{account_id}",
    "DELETE /v1/tokens/{token_id}",
}
BODIES = {
    "POST /v1/owners": {"name": "Bob"},
    "POST /v1/tokens": {"role": "owner", "label": "x"},
    "POST /v1/enrolments": {"kind": "device", "name": "x"},
    "POST /v1/devices": {"secret": "A" * 43, "board": "linux"},
    "POST /v1/gateways": {"public_key": "A" * 43},
    "POST /v1/devices/{device_id}/retire": {"reason": "x"},
    "POST /v1/devices/{device_id}/unfreeze": {"reason": "x"},
    "POST /v1/devices/{device_id}/commands": {"operation": "restart"},
    "POST /v1/tariffs": {"sample_microcredits": 1, "kib_microcredits": 1, "gateway_share_bp": 1},
}


def names_of(app: FastAPI) -> list[str]:
    return [
        f"{method} {route.path}"
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    ]


async def test_the_table_names_every_route_and_no_other(world: World) -> None:
    api = make_api(world.services)
    assert all(isinstance(route, APIRoute) for route in api.routes)
    assert sorted(names_of(api)) == sorted(TABLE)


async def send(world: World, name: str, ids: dict[str, str], token: dict[str, str]) -> int:
    method, path = name.split(" ")
    path = re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], path)
    if path.endswith("consistency"):
        path += "?from=0"
    answer = await world.client.request(method, path, headers=token, json=BODIES.get(name))
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", (name, answer.text)
    return answer.status_code


async def test_every_route_with_every_kind_of_token(world: World) -> None:
    owner_id, owner = await world.owner("Ada")
    _, other_owner = await world.owner("Bob")
    gateway = await world.gateway(owner)
    other_gateway = await world.gateway(other_owner)
    device = await world.device(owner)
    spare = await world.client.post("/v1/tokens", json={"role": "owner", "label": "spare"}, headers=owner)
    ids = {
        "device_id": device.device_id,
        "gateway_id": (await world.gateway(owner)).gateway_id,  # one more, which revoking may end
        "account_id": f"owner:{owner_id}",
        "batch_hash": "0" * 64,
        "index": "0",
        "name": "surge.css",
        "token_id": spare.json()["token_id"],
    }
    expired = world.token(Role.ADMIN, life_s=1)
    revoked = world.token(Role.ADMIN)
    newest = (await world.client.get("/v1/tokens", headers=world.admin)).json()
    (revoked_id,) = [
        entry["token_id"] for entry in newest if entry["label"] == "test" and entry["expires_ms"] is None
    ]
    assert (await world.client.delete(f"/v1/tokens/{revoked_id}", headers=world.admin)).status_code == 204
    world.clock.advance(2)
    nobody = {
        "none": {},
        "expired": expired,
        "revoked": revoked,
        "unknown": {"Authorization": "Bearer " + make_bearer_token(Role.ADMIN)},
        "another scheme": {"Authorization": world.admin["Authorization"].replace("Bearer", "Basic")},
        "no token": {"Authorization": "Bearer"},
        "not ours": {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."},
    }
    enrolment = {"Authorization": "Bearer " + make_enrolment_token()}  # of the shape, and unknown
    roles = {
        ADMIN: world.admin,
        OWNER: owner,
        GATEWAY: gateway.auth,
        AUDITOR: world.token(Role.AUDITOR),
    }
    for name, allowed in TABLE.items():
        for who, token in nobody.items():
            world.clock.advance(3600)  # so that no bucket of failed tokens is empty
            status = await send(world, name, ids, token)
            assert (status != 401) if allowed is EVERYONE else (status == 401), (name, who, status)
        world.clock.advance(3600)
        status = await send(world, name, ids, enrolment)
        if allowed is EVERYONE:
            assert status not in (401, 403), (name, status)
        else:
            assert status == (401 if allowed == ENROLMENT else 403), (name, status)
        # Foreign ones first: what the allowed ones do may retire or revoke.
        if name in OF_AN_OWNER:
            assert await send(world, name, ids, other_owner) == 404, name
        for who in (AUDITOR, GATEWAY, OWNER, ADMIN):
            status = await send(world, name, ids, roles[who])
            if allowed is EVERYONE:
                assert status not in (401, 403), (name, who, status)
            elif allowed == ENROLMENT or who not in allowed:
                assert status == 403, (name, who, status)
            else:
                assert status not in (401, 403, 405, 500), (name, who, status)
    assert (await world.client.get("/v1/gateways/self", headers=other_gateway.auth)).json()[
        "gateway_id"
    ] == other_gateway.gateway_id


async def test_a_route_without_a_guard_keeps_the_application_from_starting(world: World) -> None:
    api = make_api(world.services)
    api.add_api_route("/v1/leak", lambda: {"secret": 1})
    with pytest.raises(UnguardedRouteError, match="/v1/leak"):
        check_guarded(api)
    mounted = make_api(world.services)
    mounted.mount("/files", FastAPI())
    with pytest.raises(UnguardedRouteError, match="/files"):
        check_guarded(mounted)


def test_access_must_be_said() -> None:
    with pytest.raises(TypeError, match="access"):
        Routes("x").get("/v1/x")  # type: ignore[call-arg]


async def test_the_guard_stands_first(world: World) -> None:
    """So that nothing of a request is looked at before it is known who asks."""
    for route in make_api(world.services).routes:
        assert isinstance(route, APIRoute)
        guard = guard_of(route)
        assert guard is not None
        assert route.dependant.dependencies[0].call is guard


async def test_two_authorization_headers_are_refused(world: World) -> None:
    both = [("Authorization", world.admin["Authorization"])] * 2
    is_problem(await world.client.get("/v1/owners", headers=both), 401, "unauthenticated")


async def test_a_401_says_how_to_authenticate(world: World) -> None:
    answer = await world.client.get("/v1/owners")
    problem = is_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "Authorization" in problem["remedy"]


async def test_a_403_says_which_role_may(world: World) -> None:
    _, owner = await world.owner()
    problem = is_problem(await world.client.get("/v1/owners", headers=owner), 403, "forbidden")
    assert "admin" in problem["remedy"]


def test_public_has_no_roles() -> None:
    assert PUBLIC.schemes == ()
    assert for_roles(Role.ADMIN).schemes == ("bearer",)
