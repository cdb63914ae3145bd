"""Every error is problem details, whatever goes wrong, and nothing of a secret comes back in it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
from databases import KINDS

from surge_backend.api.application import make_application
from surge_backend.api.bounds import JSON_BODY_LEN_MAX, BodyBounds
from surge_backend.api.edge import Edge
from surge_backend.db.engine import open_engine
from surge_backend.metrics import Metrics
from surge_wire.limits import BATCH_LEN_MAX

from .conftest import World, is_problem


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/devicesx", "/v1/../etc/passwd", "/pages/../index.html"]
)
async def test_unknown_paths(world: World, path: str) -> None:
    is_problem(await world.client.get(path), 404, "not_found")


@pytest.mark.parametrize("name", ["docs.html", "__init__.py", "..%2fapp.py", "%2e%2e", "redoc.standalone.js"])
async def test_only_the_pages_own_parts_are_served(world: World, name: str) -> None:
    is_problem(await world.client.get(f"/pages/{name}"), 404, "not_found")


async def test_wrong_method(world: World) -> None:
    answer = await world.client.put("/v1/owners", headers=world.admin)
    is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]


@pytest.mark.threat(25)
async def test_validation_names_the_place_and_never_the_value(world: World) -> None:
    _, owner = await world.owner()
    secret = "S3cretS3cretS3cretS3cretS3cretS3cretS3cret!"
    answer = await world.client.post(
        "/v1/devices", json={"secret": secret, "board": "x"}, headers=await world.enrolment(owner)
    )
    problem = is_problem(answer, 422, "invalid")
    assert problem["errors"] == [{"where": "body.secret", "what": "Value error, not base64url"}]
    assert secret not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x" * 65},
        {"name": "a\x00b"},
        {"name": "a\nb"},
        {"name": 7},
        {"name": None},
        {"name": "Ada", "admin": True},
        [],
        "Ada",
    ],
)
async def test_bodies_that_do_not_fit(world: World, body: object) -> None:
    is_problem(await world.client.post("/v1/owners", json=body, headers=world.admin), 422, "invalid")


@pytest.mark.threat(19)
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b'{"name": "Ada"', 422),
        (b"[" * 60_000, 400),
        (b'{"name":' * 8_000, 400),
        (b'{"name": "\xff"}', 400),
        (b'{"name": ' + b"9" * 5_000 + b"}", 400),
    ],
)
async def test_json_that_cannot_be_read(world: World, content: bytes, status: int) -> None:
    answer = await world.client.post(
        "/v1/owners", content=content, headers=world.admin | {"Content-Type": "application/json"}
    )
    code = {422: "invalid", 400: "malformed_request"}[status]
    is_problem(answer, status, code)


async def test_a_body_of_another_type_is_not_json(world: World) -> None:
    answer = await world.client.post(
        "/v1/owners", content=b'{"name": "Ada"}', headers=world.admin | {"Content-Type": "text/plain"}
    )
    is_problem(answer, 422, "invalid")


@pytest.mark.threat(19)
async def test_a_declared_length_past_the_bound_is_refused_unread(world: World) -> None:
    pulled = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal pulled
        for _ in range(100):
            pulled += 1
            yield b"x" * 65_536

    headers = world.admin | {"Content-Length": str(JSON_BODY_LEN_MAX + 1)}
    answer = await world.client.post("/v1/owners", content=body(), headers=headers)
    problem = is_problem(answer, 413, "too_large")
    assert str(JSON_BODY_LEN_MAX) in problem["detail"]
    assert answer.headers["connection"] == "close"
    assert pulled <= 1


@pytest.mark.threat(19)
@pytest.mark.parametrize("path", ["/v1/owners", "/v1/batches"])
async def test_a_body_without_a_length_is_counted(world: World, path: str) -> None:
    _, owner = await world.owner()
    gateway = await world.gateway(owner)
    limit = BATCH_LEN_MAX if path == "/v1/batches" else JSON_BODY_LEN_MAX
    pulled = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal pulled
        for _ in range(2 * limit // 65_536 + 2):
            pulled += 65_536
            yield b"x" * 65_536

    auth = gateway.auth if path == "/v1/batches" else world.admin
    content_type = "application/cose" if path == "/v1/batches" else "application/json"
    answer = await world.client.post(path, content=body(), headers=auth | {"Content-Type": content_type})
    is_problem(answer, 413, "too_large")
    assert pulled <= limit + 2 * 65_536


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "٣", "1 1"])
async def test_a_length_that_is_no_number_is_refused(world: World, length: str) -> None:
    headers = [(b"content-length", length.encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/owners", "headers": headers}
    sent = []

    async def receive() -> dict[str, object]:
        raise AssertionError("the body must not be read")

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def application(*_: object) -> None:
        raise AssertionError("the application must not see it")

    bounds = BodyBounds(application, len_max=10, len_max_by_path={}, body_timeout_s=1.0)
    await Edge(bounds, meter=Metrics())(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 413


async def test_a_body_that_never_ends_times_out() -> None:
    async def application(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        while (await receive())["more_body"]:
            pass

    first = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> dict[str, object]:
        if first:
            return first.pop()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    sent = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/owners", "headers": [], "client": None}
    bounds = BodyBounds(application, len_max=10, len_max_by_path={}, body_timeout_s=0.05)
    await Edge(bounds, meter=Metrics())(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 408


async def test_a_client_that_leaves_in_its_body_is_no_defect(world: World) -> None:
    _, owner = await world.owner()
    gateway = await world.gateway(owner)
    headers = {**gateway.auth, "content-type": "application/cose", "content-length": "1000"}
    messages = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"a part", "more_body": True},
    ]

    async def receive() -> dict[str, object]:
        return messages.pop()

    async def send(message: dict[str, object]) -> None:  # uvicorn drops what nobody is left to hear
        sent.append(message)

    sent: list[dict[str, object]] = []

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/batches",
        "raw_path": b"/v1/batches",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    application = make_application(world.services, body_timeout_s=30.0)
    await application(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 499
    logged = world.logs.getvalue()
    assert "status=499" in logged
    assert "request_failed" not in logged
    assert "Traceback" not in logged
    assert world.services.intake.waiting == 0


@pytest.mark.threat(25)
async def test_a_defect_answers_500_without_its_text_and_is_in_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = world.admin["Authorization"].removeprefix("Bearer ")

    def broken(*_: object) -> None:
        raise ZeroDivisionError(f"while looking at {token}")

    monkeypatch.setattr("surge_backend.api.owners.list_owners", broken)
    answer = await world.client.get("/v1/owners", headers=world.admin)
    problem = is_problem(answer, 500, "internal")
    assert answer.headers["x-request-id"] == problem["request_id"]
    assert "ZeroDivision" not in answer.text
    logged = world.logs.getvalue()
    assert problem["request_id"] in logged
    assert "ZeroDivisionError" in logged
    assert token not in logged


@pytest.fixture
def settings_text() -> str:
    return (
        "storage.busy_timeout_ms = 100\n"
        "[limits]\npublic_burst = 5\npublic_per_second = 1\nenrolment_burst = 4\nenrolment_per_second = 1\n"
        "failed_token_burst = 3\nfailed_token_per_second = 1\n"
    )


@pytest.mark.parametrize("database_kind", KINDS, indirect=True)
async def test_a_locked_database_is_503_and_passes(world: World, database_url: str) -> None:
    other = open_engine(database_url)
    locked = ExitStack()
    locked.enter_context(other.write())
    answer = await world.client.post("/v1/owners", json={"name": "Ada"}, headers=world.admin)
    problem = is_problem(answer, 503, "store_busy")
    assert answer.headers["retry-after"] == str(problem["retry_after_s"])
    locked.close()
    other.close()
    assert (
        await world.client.post("/v1/owners", json={"name": "Ada"}, headers=world.admin)
    ).status_code == 201


@pytest.mark.threat(18)
async def test_public_requests_are_limited_per_address(world: World) -> None:
    answers = [await world.client.get("/v1/tariffs") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    problem = is_problem(answers[-1], 429, "too_many_requests")
    assert answers[-1].headers["retry-after"] == str(problem["retry_after_s"]) == "1"
    world.clock.advance(1)
    assert (await world.client.get("/v1/tariffs")).status_code == 200


async def test_a_token_is_not_limited_as_the_public_is(world: World) -> None:
    for _ in range(6):
        await world.client.get("/v1/tariffs")
    assert (await world.client.get("/v1/owners", headers=world.admin)).status_code == 200


@pytest.mark.threat(2)
async def test_guessing_tokens_is_limited_also_for_the_right_one(world: World) -> None:
    wrong = {"Authorization": "Bearer surge_admin_" + "A" * 43}
    for _ in range(3):
        is_problem(await world.client.get("/v1/owners", headers=wrong), 401, "unauthenticated")
    is_problem(await world.client.get("/v1/owners", headers=wrong), 429, "too_many_requests")
    is_problem(await world.client.get("/v1/owners", headers=world.admin), 429, "too_many_requests")
    world.clock.advance(2)
    assert (await world.client.get("/v1/owners", headers=world.admin)).status_code == 200


@pytest.mark.threat(18)
async def test_enrolments_are_limited(world: World) -> None:
    _, owner = await world.owner()
    for _ in range(4):
        await world.device(owner)
    token = await world.enrolment(owner)
    body = {"secret": "A" * 43, "board": "x"}
    is_problem(await world.client.post("/v1/devices", json=body, headers=token), 429, "too_many_requests")


async def test_every_answer_carries_the_security_headers(world: World) -> None:
    for answer in (await world.client.get("/"), await world.client.get("/nothing")):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


async def test_requests_are_counted_by_template(world: World) -> None:
    await world.client.get("/v1/log/entries/77")
    await world.client.get("/nothing/at/all")
    await world.client.request("BREW", "/v1/stats")
    text = (await world.client.get("/metrics")).text
    assert 'route="/v1/log/entries/{index}",status="404"' in text
    assert 'route="unmatched",status="404"' in text
    assert 'method="other"' in text
    assert "/nothing" not in text
    assert "BREW" not in text


async def test_query_strings_are_not_logged(world: World) -> None:
    await world.client.get("/v1/log/entries/0", params={"token": "surge_admin_" + "A" * 43, "x": "needle"})
    assert "needle" not in world.logs.getvalue()
