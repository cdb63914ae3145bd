"""Ways around the door: other methods, other spellings of a path, tokens in other places, other owners.

Sent to a real server byte for byte: an HTTP library would tidy up the paths first.
"""

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from surge_backend.registry.tokens import Role, make_bearer_token, make_enrolment_token

from .conftest import World, is_problem
from .served import Site, served_site
from .test_access import ENROLMENT, EVERYONE, GATEWAY, TABLE, send

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served_site(tmp_path_factory.mktemp("site")) as site:
        yield site


def ask(
    site: Site, method: str, target: str, headers: dict[str, str] | None = None, body: str | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request with exactly this target."""
    host = urlsplit(site.url).netloc
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection._validate_path = lambda url: None  # type: ignore[attr-defined]  # ours is to be odd
        connection.request(method, target, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def real(site: Site, path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: site.ids[found[1]][0], path)


@pytest.mark.parametrize("path", sorted({name.split()[1] for name in TABLE}))
def test_no_other_method_does_anything(site: Site, path: str) -> None:
    """Whoever asks: 405 with the methods that there are, and not even HEAD or OPTIONS answers for a route."""
    there = {name.split()[0] for name in TABLE if re.fullmatch(pattern(name.split()[1]), real(site, path))}
    for method in METHODS:
        if method in there or method == "CONNECT":
            continue
        for who in ("admin", "nobody"):
            status, headers, body = ask(site, method, real(site, path), site.tokens[who])
            assert status == 405, (method, who, body)
            assert set(headers["allow"].split(", ")) <= there
            assert not set(headers) & {"access-control-allow-origin", "access-control-allow-methods"}


def pattern(path: str) -> str:
    return re.sub(r"\{\w+\}", "[^/]+", path)


SPELLINGS = [
    "{}/",
    "{}//",
    "/{}",
    "//{}",
    "/.{}",
    "/x/..{}",
    "/%2e%2e{}",
    "{}%2f",
    "{}%2F..",
    "{}/.",
    "{}/..",
    "{};x",
    "{}%00",
    "{}%20",
    "{}%0a",
    "{}.json",
    "{}\\",
    "/%2f{}",
    "{}/%2e",
]


def spelt_otherwise(path: str) -> list[str]:
    found = [spelling.format(path) for spelling in SPELLINGS]
    found += [path.replace("/v1/", other) for other in ("/v1//", "/V1/", "/v1/./", "/v1%2f", "/v2/")]
    return [other for other in found if other != path]


@pytest.mark.parametrize("name", sorted(TABLE))
def test_another_spelling_of_a_path_is_another_path(site: Site, name: str) -> None:
    """It is answered 404 (or 401, 403, 422 where it fits another route): never done, and never redirected."""
    method, path = name.split()
    if path == "/":
        return  # all its spellings are other pages'
    content = "{}" if method == "POST" else None
    for target in spelt_otherwise(real(site, path)):
        headers = site.tokens["other owner"] | {"Content-Type": "application/json"}
        status, headers_back, body = ask(site, method, target, headers, content)
        assert status in (400, 401, 403, 404, 405, 422), (target, status, body[:200])
        assert "location" not in headers_back, target


@pytest.mark.parametrize(
    "target",
    [
        "/pages/../application.py",
        "/pages/%2e%2e/application.py",
        "/pages/..%2fapplication.py",
        "/pages/%2fetc%2fpasswd",
        "/pages//etc/passwd",
        "/pages/__init__.py",
        "/pages/surge.css%00.py",
        "/pages/surge.css/",
        "/pages/.",
        "/pages/",
    ],
)
def test_pages_are_those_that_there_are(site: Site, target: str) -> None:
    status, _, body = ask(site, "GET", target)
    assert status in (400, 404, 405, 422), body[:200]


TOKEN_ELSEWHERE = {
    "X-Api-Key": "{}",
    "X-Auth-Token": "{}",
    "X-Authorization": "Bearer {}",
    "Proxy-Authorization": "Bearer {}",
    "Cookie": "token={}; Authorization=Bearer {}",
    "X-Original-URL": "/v1/stats",
    "X-HTTP-Method-Override": "GET",
    "X-Forwarded-For": "127.0.0.1",
    "Forwarded": "for=127.0.0.1",
}


@pytest.mark.parametrize("name", sorted(name for name in TABLE if TABLE[name] is not EVERYONE))
def test_a_token_counts_in_its_header_only(site: Site, name: str) -> None:
    method, path = name.split()
    token = site.tokens["admin"]["Authorization"].partition(" ")[2]
    elsewhere = {key: value.replace("{}", token) for key, value in TOKEN_ELSEWHERE.items()}
    target = real(site, path) + f"?access_token={token}&token={token}&Authorization=Bearer%20{token}"
    body = json.dumps({"access_token": token}) if method == "POST" else None
    status, headers, _ = ask(site, method, target, elsewhere | {"Content-Type": "application/json"}, body)
    assert status == 401
    assert headers["www-authenticate"].startswith("Bearer")
    assert token not in site.logs.getvalue()


def mutilated(token: str) -> list[str]:
    """Everything that is nearly an Authorization header, and isn't."""
    return [
        f"Bearer {token[:-1]}",
        f"Bearer {token}x",
        f"Bearer {token[:-1]}{'A' if token[-1] != 'A' else 'B'}",
        f"Bearer {token.upper()}",
        f"Bearer {token.lower()}",
        f"Bearer {token.replace('admin', 'owner')}",
        f"Bearer {token} {token}",
        f"Bearer {token},",
        f"Bearer {token}\u00e4",
        f"Bearer {token}%00",
        f'Bearer "{token}"',
        f"Bearer={token}",
        f"Bearer:{token}",
        f"Token {token}",
        f"Basic {token}",
        f"Bearer Bearer {token}",
        f"{token}",
        f"Bearer\t{token}",
        "Bearer null",
        "Bearer undefined",
        "Bearer " + "x" * 6_000,
        "Bearer ' OR 1=1 --",
        "Bearer " + make_enrolment_token().replace("enrol", "admin"),
        "Bearer " + make_bearer_token(Role.ADMIN),
        "",
        " ",
    ]


def test_a_token_that_is_nearly_right_is_wrong(site: Site) -> None:
    header = site.tokens["admin"]["Authorization"]
    assert ask(site, "GET", "/v1/owners", {"Authorization": header})[0] == 200
    for wrong in mutilated(header.partition(" ")[2]):
        encoded = wrong.encode().decode("latin-1")
        status, _, body = ask(site, "GET", "/v1/owners", {"Authorization": encoded})
        assert status == 401, (wrong, body)


# --- whose it is ------------------------------------------------------------------------------------------


async def test_lists_show_an_owner_nothing_of_another(world: World) -> None:
    """Everything that an owner may list: not an id of the other one's is in any of it."""
    ada_id, ada = await world.owner("Ada")
    _, bob = await world.owner("Bob")
    gateway = await world.gateway(ada)
    device = await world.device(ada)
    await world.settle(gateway, [device.report()])
    await world.client.post(
        f"/v1/devices/{device.device_id}/commands", json={"operation": "restart"}, headers=ada
    )
    tokens = (await world.client.get("/v1/tokens", headers=ada)).json()
    hers = [ada_id, gateway.gateway_id, device.device_id, *(token["token_id"] for token in tokens)]
    listed: list[str] = []
    for path in ("devices", "gateways", "accounts", "transfers", "tokens"):
        own = await world.client.get(f"/v1/{path}", headers=ada)
        foreign = await world.client.get(f"/v1/{path}", headers=bob)
        assert own.status_code == foreign.status_code == 200
        assert any(name in own.text for name in hers), path
        assert not [name for name in hers if name in foreign.text], path
        listed.append(path)
    account = {"account": f"owner:{ada_id}"}
    assert (await world.client.get("/v1/transfers", params=account, headers=bob)).json() == []


async def test_an_owner_makes_nothing_for_another(world: World) -> None:
    ada_id, ada = await world.owner("Ada")
    _, bob = await world.owner("Bob")
    gateway = await world.gateway(ada)

    async def post(path: str, body: dict[str, Any]) -> Any:
        return await world.client.post(path, json=body, headers=bob)

    enrolment = {"kind": "device", "name": "x"}
    is_problem(await post("/v1/enrolments", enrolment | {"owner_id": ada_id}), 403, "forbidden")
    token = {"role": "gateway", "label": "x", "subject_id": gateway.gateway_id}
    is_problem(await post("/v1/tokens", token), 404, "not_found")
    is_problem(await post("/v1/tokens", token | {"role": "owner", "subject_id": ada_id}), 403, "forbidden")
    for role in ("admin", "auditor"):
        is_problem(await post("/v1/tokens", {"role": role, "label": "x"}), 403, "forbidden")
    listed = (await world.client.get("/v1/tokens", headers=ada)).json()
    assert [entry for entry in listed if entry["label"] == "x"] == []


@pytest.mark.threat(25)
async def test_a_revoked_gateways_token_opens_nothing_from_the_next_request_on(world: World) -> None:
    """The window of a leaked gateway key: until its revocation, and not one request longer."""
    _, owner = await world.owner()
    gateway = await world.gateway(owner)
    device = await world.device(owner)
    await world.settle(gateway, [device.report()])
    another = await world.client.post(
        "/v1/tokens", json={"role": "gateway", "label": "x", "subject_id": gateway.gateway_id}, headers=owner
    )
    tokens = [gateway.auth, {"Authorization": f"Bearer {another.json()['token']}"}]
    assert (await world.client.get("/v1/gateways/self", headers=tokens[1])).status_code == 200
    revoke = f"/v1/gateways/{gateway.gateway_id}/revoke"
    assert (await world.client.post(revoke, headers=owner)).status_code == 204
    for name, allowed in TABLE.items():
        if allowed is not EVERYONE and allowed != ENROLMENT and GATEWAY in allowed:
            for token in tokens:
                assert await send(world, name, {"batch_hash": "0" * 64}, token) == 401, name
    is_problem(await world.post_batch(gateway, gateway.batch([device.report()])), 401, "unauthenticated")
    again = {"role": "gateway", "label": "again", "subject_id": gateway.gateway_id}
    is_problem(await world.client.post("/v1/tokens", json=again, headers=owner), 409, "conflict")


@pytest.mark.threat(2)
async def test_an_enrolment_token_is_no_bearer_token_and_is_spent_once(world: World) -> None:
    _, owner = await world.owner()
    enrolment = await world.enrolment(owner)
    for name, allowed in TABLE.items():
        if allowed is not EVERYONE and allowed != ENROLMENT:
            ids = dict.fromkeys(("device_id", "gateway_id", "account_id", "token_id"), "x")
            assert await send(world, name, ids | {"batch_hash": "0" * 64}, enrolment) == 403, name
    body = {"secret": "A" * 43, "board": "linux"}
    first = await world.client.post("/v1/devices", json=body, headers=enrolment)
    again = await world.client.post("/v1/devices", json=body, headers=enrolment)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    other = await world.client.post("/v1/devices", json=body | {"secret": "B" * 42 + "A"}, headers=enrolment)
    is_problem(other, 409, "enrolment_used")
    body = {"public_key": "A" * 43}
    assert (await world.client.post("/v1/gateways", json=body, headers=enrolment)).status_code in (401, 422)
