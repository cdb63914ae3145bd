"""The real application over a real database file and a real DuckDB file, reached without a socket."""

import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from databases import SQLITE

from surge_backend.api.application import make_application
from surge_backend.api.fields import encode_base64url
from surge_backend.api.services import Services
from surge_backend.app import opened_services
from surge_backend.observability import set_up_logging
from surge_backend.registry.token_rows import issue_token
from surge_backend.registry.tokens import Role
from surge_backend.settings import read_settings
from surge_backend.upkeep import initialise
from surge_wire import ed25519
from surge_wire.batch import FIRST_PREVIOUS, Batch, chain_hash, encode_batch, seal_batch
from surge_wire.hkdf import INFO_REPORT, derive_key
from surge_wire.report import Report, seal_report
from surge_wire.senml import make_record

DAY_S = 86_400


@dataclass
class Clock:
    """The backend's clock, moved by hand."""

    now_ms: int = 1_800_000_000_000
    monotonic_s: float = 1_000.0

    def advance(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)
        self.monotonic_s += seconds


@dataclass
class Device:
    """A device that seals real reports."""

    device_id: str
    secret: bytes
    next_seq: int = 0

    def report(self, value: float = 21.5, boot: int = 1, seq: int | None = None, **fields: Any) -> bytes:
        if seq is None:
            seq = self.next_seq
            self.next_seq += 1
        pack = fields.pop("pack", [make_record("temperature", "Cel", value)])
        made = Report(boot, seq, 1_000 * seq, fields.pop("time_ms", None), pack, **fields)
        return seal_report(self.device_id, derive_key(self.secret, INFO_REPORT), made)


@dataclass
class Gateway:
    """A gateway that signs real batches and keeps its chain."""

    gateway_id: str
    seed: bytes
    token: str
    log_public_key: bytes = b""
    next_seq: int = 0
    previous: bytes = FIRST_PREVIOUS
    payload: bytes = b""
    envelope: bytes = b""

    @property
    def auth(self) -> dict[str, str]:
        return bearer(self.token)

    def batch(self, reports: list[bytes], *, seed: bytes | None = None, **changed: Any) -> bytes:
        """Seal the next batch, without moving the chain on. `changed` overrides fields."""
        fields = {"seq": self.next_seq, "previous": self.previous, "closed_ms": 1_800_000_000_000} | changed
        self.payload = encode_batch(
            Batch(reports=reports, received_ms=[1_800_000_000_000] * len(reports), **fields)
        )
        self.envelope = seal_batch(self.gateway_id, ed25519.signer(seed or self.seed), self.payload)
        return self.envelope

    def move_on(self) -> None:
        self.next_seq += 1
        self.previous = chain_hash(self.payload)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass
class World:
    """The application, its services, and people who use it through the API."""

    client: httpx.AsyncClient
    services: Services
    clock: Clock
    admin: dict[str, str]
    logs: io.StringIO
    seeds: int = field(default=0)

    def token(self, role: Role, subject_id: str = "", *, life_s: int | None = None) -> dict[str, str]:
        """A token made without the API, for cases that the API doesn't make."""
        now_ms = self.clock.now_ms
        expires_ms = None if life_s is None else now_ms + life_s * 1000
        with self.services.database.write() as connection:
            return bearer(issue_token(connection, role, subject_id, "test", now_ms, expires_ms).token)

    async def owner(self, name: str = "Ada") -> tuple[str, dict[str, str]]:
        answer = await self.client.post("/v1/owners", json={"name": name}, headers=self.admin)
        assert answer.status_code == 201, answer.text
        return answer.json()["owner_id"], bearer(answer.json()["token"])

    async def enrolment(self, owner: dict[str, str], kind: str = "device", **more: Any) -> dict[str, str]:
        body = {"kind": kind, "name": f"a {kind}"} | more
        answer = await self.client.post("/v1/enrolments", json=body, headers=owner)
        assert answer.status_code == 201, answer.text
        return bearer(answer.json()["enrolment_token"])

    def _seed(self) -> bytes:
        self.seeds += 1
        return self.seeds.to_bytes(32, "big")

    async def device(self, owner: dict[str, str], **more: Any) -> Device:
        secret = self._seed()
        answer = await self.client.post(
            "/v1/devices",
            json={"secret": encode_base64url(secret), "board": "linux"},
            headers=await self.enrolment(owner, **more),
        )
        assert answer.status_code == 201, answer.text
        return Device(answer.json()["device_id"], secret)

    async def gateway(self, owner: dict[str, str]) -> Gateway:
        seed = self._seed()
        answer = await self.client.post(
            "/v1/gateways",
            json={"public_key": encode_base64url(ed25519.public_key(seed))},
            headers=await self.enrolment(owner, "gateway"),
        )
        assert answer.status_code == 201, answer.text
        log_key = self.services.log.public_key
        return Gateway(answer.json()["gateway_id"], seed, answer.json()["token"], log_key)

    async def post_batch(self, gateway: Gateway, envelope: bytes, **headers: str) -> httpx.Response:
        return await self.client.post(
            "/v1/batches",
            content=envelope,
            headers=gateway.auth | {"Content-Type": "application/cose"} | headers,
        )

    async def settle(self, gateway: Gateway, reports: list[bytes]) -> httpx.Response:
        answer = await self.post_batch(gateway, gateway.batch(reports))
        assert answer.status_code == 201, answer.text
        gateway.move_on()
        return answer


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """SQLite, unless a test is parametrised by it: most of what is tested here never gets to the database."""
    return str(getattr(request, "param", SQLITE))


@pytest.fixture
def settings_text() -> str:
    """Settings beyond the defaults; a test module may have its own fixture of this name."""
    return "[limits]\npublic_burst = 100000\nenrolment_burst = 100000\n"


@pytest.fixture
async def world(tmp_path: Path, settings_text: str, database_url: str) -> AsyncIterator[World]:
    logs = io.StringIO()
    set_up_logging("debug", json=False, stream=logs)
    config = tmp_path / "backend.toml"
    url_file = tmp_path / "database.url"
    url_file.write_text(database_url)
    url_file.chmod(0o600)
    config.write_text(f"storage.database_url_file = '{url_file}'\n" + settings_text)
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
            yield World(client, services, clock, admin, logs)
    print(logs.getvalue())


ProblemCheck = Callable[[httpx.Response, int, str], dict[str, Any]]


def is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert that `answer` is the problem `code`; gives its members."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:surge:problem:{code}")
    assert body["title"]
    return body
