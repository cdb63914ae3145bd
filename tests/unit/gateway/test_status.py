"""/healthz, /metrics and /status, and what the little server refuses."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from gateway_clock import FakeClock
from prometheus_client.parser import text_string_to_metric_families

from surge_gateway.counters import REASONS, Counters
from surge_gateway.devices import Devices
from surge_gateway.logs import redact
from surge_gateway.status import BrokerState, Status
from surge_gateway.status_server import HEAD_LEN_MAX, StatusServer
from surge_gateway.uplink import HALTED, SENDING, WAITING
from surge_host.errors import UserError


class Part:
    """Stands for a part of which only a few attributes are read."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@pytest.fixture
def status() -> Status:
    spool = Part(length=123, full=False, failed_appends=0)
    devices = Devices(10)
    devices.enrol("daaaaaaaaaaaaaaaa")
    return Status(
        "gaaaaaaaaaaaaaaaa",
        1,
        FakeClock(),
        Counters(received=3),
        devices,
        Part(spool=spool, waiting_count=2, sealed_count=1, quarantine=Part(spans=0)),  # type: ignore[arg-type]
        Part(state=SENDING),  # type: ignore[arg-type]
        Part(alarm="", trusted=None),  # type: ignore[arg-type]
        Part(waiting_count=0),  # type: ignore[arg-type]
        lambda: BrokerState("embedded", True, 0, 0, 0),
        lambda: [],
        lambda: "",
    )


@pytest.fixture
async def server(status: Status) -> AsyncIterator[StatusServer]:
    server = StatusServer(status, "127.0.0.1", 0)
    await server.start()
    yield server
    await server.stop()


async def get(server: StatusServer, path: str, method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.request(method, server.url + path)


async def test_pages(server: StatusServer) -> None:
    assert (await get(server, "/healthz")).json() == {"status": "ok", "waiting_for": []}
    snapshot = (await get(server, "/status")).json()
    assert snapshot["gateway_id"] == "gaaaaaaaaaaaaaaaa"
    assert snapshot["reports"]["received"] == 3
    assert snapshot["devices"]["enrolled"] == 1
    metrics = {
        family.name: family for family in text_string_to_metric_families((await get(server, "/metrics")).text)
    }
    assert metrics["surge_gateway_reports_received"].samples[0].value == 3
    reasons = {sample.labels["reason"] for sample in metrics["surge_gateway_reports_refused"].samples}
    assert reasons == set(REASONS)


async def test_other_paths_and_methods_are_refused(server: StatusServer) -> None:
    assert (await get(server, "/etc/passwd")).status_code == 404
    assert (await get(server, "/status", "POST")).status_code == 405


async def test_a_head_without_end_is_closed(server: StatusServer) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /status HTTP/1.1\r\nX: " + b"x" * (2 * HEAD_LEN_MAX))
    try:
        assert await reader.read() == b""
    except ConnectionError:
        pass  # closed with our bytes unread: also a way to hang up
    writer.close()
    assert (await get(server, "/healthz")).status_code == 200


async def test_a_port_in_use_is_told(server: StatusServer, status: Status) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(UserError, match=f"port {port} is in use"):
        await StatusServer(status, "127.0.0.1", port).start()


@pytest.mark.parametrize(("state", "said"), [(SENDING, "ok"), (WAITING, "waiting"), (HALTED, "halted")])
def test_health_says_what_it_waits_for(status: Status, state: str, said: str) -> None:
    status.uplink.state = state
    assert status.health()["status"] == said
    assert json.dumps(status.snapshot())


@pytest.mark.threat(15)
def test_health_is_not_ok_while_the_disk_takes_nothing(status: Status) -> None:
    failing = dataclasses.replace(status, disk_error=lambda: "spool: No space left on device")
    assert failing.health() == {"status": "waiting", "waiting_for": ["disk"]}


@pytest.mark.threat(25)
def test_secrets_never_reach_the_log() -> None:
    event = redact(
        None, "info", {"event": "x", "api_token": "t", "Authorization": "b", "password": "p", "seq": 1}
    )
    assert event == {"event": "x", "api_token": "***", "Authorization": "***", "password": "***", "seq": 1}
