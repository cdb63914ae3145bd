"""Exports over the API: what is streamed verifies, slow readers hold nothing up, and only so many run."""

import asyncio
import io
from typing import Any

from starlette.types import Message

from surge_backend.api.application import make_application
from surge_backend.api.export import EXPORTS_MAX
from surge_backend.audit.verifying import verify_export
from surge_backend.registry.tokens import Role

from .conftest import World, is_problem


async def populate(world: World) -> None:
    _, owner = await world.owner()
    gateway, device = await world.gateway(owner), await world.device(owner)
    for _ in range(3):
        await world.settle(gateway, [device.report() for _ in range(5)])


async def test_what_is_streamed_verifies_and_both_parts_are_of_one_log(world: World) -> None:
    await populate(world)
    auditor = world.token(Role.AUDITOR)
    full = await world.client.get("/v1/export", headers=auditor)
    assert full.headers["content-type"] == "application/cbor-seq"
    public = await world.client.get("/v1/log/export")
    reports = [verify_export(io.BytesIO(answer.content)) for answer in (full, public)]
    assert [report.findings for report in reports] == [(), ()]
    assert [report.full for report in reports] == [True, False]
    assert reports[0].root == reports[1].root
    assert reports[0].checked["accepted"] == 15
    assert reports[0].log_public_key == world.services.log.public_key


async def test_an_export_begins_within_the_log(world: World) -> None:
    await populate(world)
    for path, token in (("/v1/export", world.token(Role.AUDITOR)), ("/v1/log/export", {})):
        for first, status in ((3, 200), (4, 404), (-1, 422), ("x", 422), (1 << 60, 422)):
            answer = await world.client.get(path, headers=token, params={"from": first})
            assert answer.status_code == status, (path, first)


class SlowReader:
    """A client that takes the first bytes of an answer and then waits, or goes away."""

    def __init__(self, token: dict[str, str], leaves: bool = False) -> None:
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.leaves = leaves
        self.status = 0
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "path": "/v1/export",
            "raw_path": b"/v1/export",
            "query_string": b"",
            "scheme": "http",
            "headers": [(b"authorization", token["Authorization"].encode())],
            "client": ("127.0.0.1", 1),
            "server": ("surge", 80),
        }

    async def read(self, application: Any) -> None:
        sent = False

        async def receive() -> Message:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()
            sent = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                return
            self.began.set()
            if self.leaves:
                raise OSError("the client went away")
            await self.go_on.wait()

        await application(self.scope, receive, send)


async def test_slow_readers_are_bounded_and_hold_up_no_batch(world: World) -> None:
    await populate(world)
    auditor = world.token(Role.AUDITOR)
    application = make_application(world.services, body_timeout_s=5)
    readers = [SlowReader(auditor) for _ in range(EXPORTS_MAX)]
    async with asyncio.TaskGroup() as tasks:
        for reader in readers:
            tasks.create_task(reader.read(application))
        for reader in readers:
            await reader.began.wait()
        one_more = SlowReader(auditor)
        one_more.go_on.set()
        await one_more.read(application)
        assert one_more.status == 503
        _, owner = await world.owner("Bob")  # a writer takes its turn meanwhile
        await world.gateway(owner)
        for reader in readers:
            reader.go_on.set()
    assert [reader.status for reader in readers] == [200] * EXPORTS_MAX
    again = SlowReader(auditor)
    again.go_on.set()
    await again.read(application)
    assert again.status == 200


async def test_a_reader_that_goes_away_gives_its_place_back(world: World) -> None:
    await populate(world)
    auditor = world.token(Role.AUDITOR)
    application = make_application(world.services, body_timeout_s=5)
    for _ in range(2 * EXPORTS_MAX):
        reader = SlowReader(auditor, leaves=True)
        await reader.read(application)
        assert reader.status == 200
    last = SlowReader(auditor)
    last.go_on.set()
    await last.read(application)
    assert last.status == 200


async def test_an_export_is_for_auditors(world: World) -> None:
    is_problem(await world.client.get("/v1/export"), 401, "unauthenticated")
    _, owner = await world.owner()
    is_problem(await world.client.get("/v1/export", headers=owner), 403, "forbidden")
