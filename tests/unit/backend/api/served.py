"""The real application behind a real socket, in a thread of its own, with something of everything in it.

For tests whose client is not asynchronous. Two owners with devices and gateways, settled batches with
accepted and rejected reports, telemetry, a waiting command, an alarm, a frozen and a retired device.
"""

import asyncio
import contextlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from surge_backend.api.application import make_application
from surge_backend.app import opened_services
from surge_backend.observability import set_up_logging
from surge_backend.registry.tokens import Role, make_bearer_token
from surge_backend.server import listening_socket, make_server
from surge_backend.settings import read_settings
from surge_backend.upkeep import initialise
from surge_wire.senml import make_record

from .conftest import Clock, World, bearer

# Buckets that never empty: what is asked here is whether an answer is right, not how often one may ask.
SETTINGS = """
[server]
port = 0
[limits]
public_burst = 100000
public_per_second = 100000
enrolment_burst = 100000
enrolment_per_second = 100000
failed_token_burst = 100000
failed_token_per_second = 100000
"""
START_TIMEOUT_S = 60


@dataclass
class Site:
    """Where it listens, a token for each role, and ids that are there."""

    url: str = ""
    tokens: dict[str, dict[str, str]] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)
    openapi: dict[str, Any] = field(default_factory=dict)
    logs: io.StringIO = field(default_factory=io.StringIO)


async def fill(world: World, site: Site) -> None:
    """People, devices and what they sent."""
    ada_id, ada = await world.owner("Ada")
    bob_id, bob = await world.owner("Bob")
    gateway = await world.gateway(ada)
    spare_gateway = await world.gateway(ada)
    await world.gateway(bob)
    device, foreign, frozen, retired = [await world.device(owner) for owner in (ada, bob, ada, ada)]
    reports = [device.report(value) for value in (20.0, 21.5, 1e300)]
    reports.append(device.report(pack=[make_record("door", "", True), make_record("label", "", "x" * 40)]))
    forged = foreign.report()[:-1] + b"\x00"
    await world.settle(gateway, [*reports, foreign.report(), forged, frozen.report(), retired.report()])
    settled = gateway.envelope
    twice = frozen.report(99.0, seq=0)  # the same name, other bytes: frozen, with evidence and an alarm
    await world.settle(gateway, [device.report(seq=9), twice])
    because = {"reason": "a test"}
    await world.client.post(f"/v1/devices/{retired.device_id}/retire", json=because, headers=ada)
    await world.client.post(
        f"/v1/devices/{device.device_id}/commands", json={"operation": "restart"}, headers=ada
    )
    await world.services.projector.catch_up()
    spare_token = await world.client.post("/v1/tokens", json={"role": "owner", "label": "spare"}, headers=ada)
    site.tokens = {
        "admin": world.admin,
        "owner": ada,
        "other owner": bob,
        "gateway": gateway.auth,
        "auditor": world.token(Role.AUDITOR),
        "enrolment": await world.enrolment(ada),
        "unknown": bearer(make_bearer_token(Role.ADMIN)),
        "nobody": {},
    }
    listed = (await world.client.get("/v1/transfers", headers=world.admin)).json()
    settlement = (await world.client.get("/v1/log/entries/0", headers={"Accept": "application/json"})).json()
    assert listed
    assert settled
    site.ids = {
        "device_id": [device.device_id, foreign.device_id, frozen.device_id, retired.device_id],
        "gateway_id": [spare_gateway.gateway_id],  # it may be revoked; the one whose token we use may not
        "owner_id": [ada_id, bob_id],
        "account_id": [f"owner:{ada_id}", f"owner:{bob_id}", "issuance"],
        "batch_hash": [settlement["batch_hash"]],
        "token_id": [spare_token.json()["token_id"]],
        "index": ["0", "1"],
        "name": ["surge.css"],
    }
    answer = await world.client.get("/openapi.json")
    site.openapi = answer.json()


@contextlib.contextmanager
def served_site(folder: Path) -> Iterator[Site]:
    """A filled site that answers while the block runs."""
    site = Site()
    ready = threading.Event()
    stop: list[asyncio.AbstractEventLoop | asyncio.Event] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        set_up_logging("info", json=False, stream=site.logs)
        config = folder / "backend.toml"
        config.write_text(SETTINGS)
        initialise(config)
        settings = read_settings(config, {})
        admin = bearer(settings.storage.admin_token_path.read_text().strip())
        clock = Clock()
        async with opened_services(
            settings, now_ms=lambda: clock.now_ms, monotonic_s=lambda: clock.monotonic_s
        ) as services:
            application = make_application(services, body_timeout_s=settings.server.body_timeout_s)
            transport = httpx.ASGITransport(application, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://surge") as client:
                await fill(World(client, services, clock, admin, site.logs), site)
            with listening_socket(settings.server) as listener:
                site.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                server = make_server(settings.server, application)
                async with asyncio.TaskGroup() as tasks:
                    serving = tasks.create_task(server.serve(sockets=[listener]), name="server")
                    await server.answers.wait()
                    ended = asyncio.Event()
                    stop.extend([asyncio.get_running_loop(), ended])
                    ready.set()
                    await ended.wait()
                    server.should_exit = True
                    await serving

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # told to the test's own thread, which raises it
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="served site")
    thread.start()
    try:
        assert ready.wait(START_TIMEOUT_S)
        if failed:
            raise failed[0]
        yield site
    finally:
        if stop:
            loop, ended = stop
            assert isinstance(loop, asyncio.AbstractEventLoop)
            assert isinstance(ended, asyncio.Event)
            loop.call_soon_threadsafe(ended.set)
        thread.join()
    if failed:
        raise failed[0]
