"""Gives thousands of devices their identities at once.

Place in the flow: before the fleet. Two ways: `enrol_in_database` writes the rows that enrolment would make
straight into the database of a backend on this machine (ten thousand in seconds; for a network that was made
to be thrown away), `enrol_over_api` asks a running backend as any device does, at the pace that it allows.
Rules kept: secrets are random, never made from the seed, and only in this process and sealed in the database;
verifiers are made in threads, since bcrypt lets go of the interpreter; all rows are one transaction.
"""

import asyncio
import base64
import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from surge_backend.db.bulk import insert_rows
from surge_backend.db.schema import ACTIVE, devices
from surge_backend.keys import read_master_key
from surge_backend.opening import opened_database
from surge_backend.registry.device_rows import next_revision
from surge_backend.registry.events import DEVICE_ENROLLED, GATEWAY_ID, OWNER_ID, record_event
from surge_backend.settings import Settings
from surge_cli.provisioning import problem_text
from surge_cli.simulate.device import Identity, make_identity
from surge_host.errors import UserError
from surge_host.mqtt_credentials import make_device_credential
from surge_wire.ids import DEVICE, make_id
from surge_wire.limits import SECRET_LEN

BOARD = "simulated"
API_TIMEOUT_S = 60
RETRY_AFTER_S_MAX = 60.0  # a longer pause that the backend asks for is looked at again after so long
TRIES_MAX = 10_000  # of one enrolment, each after the pause that a 429 asked for
TOO_MANY = 429

_COLUMNS = (
    "id", "owner_id", "name", "board", "gateway_id", "secret_sealed", "mqtt_bcrypt", "mqtt_pbkdf2_sha512",
    "status", "revision", "created_ms",
)  # fmt: skip


def enrol_in_database(settings: Settings, owner_id: str, count: int) -> list[Identity]:
    """Enrol ``count`` devices of ``owner_id``, for any of its gateways. The backend may be running."""
    identities = [
        make_identity(make_id(DEVICE, os.urandom(10)), secrets.token_bytes(SECRET_LEN)) for _ in range(count)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        credentials = list(
            pool.map(
                lambda identity: make_device_credential(identity.device_id, identity.password()), identities
            )
        )
    vault = read_master_key(settings.storage.master_key_path)
    now_ms = time.time_ns() // 1_000_000
    with opened_database(settings) as database, database.write() as connection:
        revision = next_revision(connection)
        rows = [
            (
                identity.device_id, owner_id, f"simulated {number}", BOARD, None,
                vault.seal(identity.device_id, identity.secret), credential.bcrypt, credential.pbkdf2_sha512,
                ACTIVE, revision + number, now_ms,
            )
            for number, (identity, credential) in enumerate(zip(identities, credentials, strict=True))
        ]  # fmt: skip
        insert_rows(connection, devices, _COLUMNS, rows)
        detail = {OWNER_ID: owner_id, GATEWAY_ID: None}
        for identity in identities:
            record_event(connection, DEVICE_ENROLLED, identity.device_id, now_ms, detail)
    return identities


async def enrol_over_api(
    backend_url: str, owner_token: str, count: int, tell: Callable[[int], None]
) -> list[Identity]:
    """Enrol ``count`` devices as their owner would, one after another; ``tell`` hears how many are done.

    A 429 is obeyed: the backend's limit on enrolments (``[limits] enrolment_per_second``) sets the pace."""
    identities: list[Identity] = []
    async with httpx.AsyncClient(base_url=backend_url, timeout=API_TIMEOUT_S) as client:
        for number in range(count):
            body = {"kind": "device", "name": f"simulated {number}"}
            made = await _post(client, "/v1/enrolments", owner_token, body)
            secret = secrets.token_bytes(SECRET_LEN)
            text = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
            answer = await _post(
                client, "/v1/devices", str(made["enrolment_token"]), {"secret": text, "board": BOARD}
            )
            identities.append(make_identity(str(answer["device_id"]), secret))
            tell(len(identities))
    return identities


async def _post(client: httpx.AsyncClient, path: str, token: str, body: dict[str, str]) -> dict[str, object]:
    for _ in range(TRIES_MAX):
        try:
            answer = await client.post(path, json=body, headers={"Authorization": f"Bearer {token}"})
        except httpx.HTTPError as error:
            raise UserError("the backend doesn't answer", str(client.base_url), str(error)) from error
        if answer.status_code != TOO_MANY:
            if not answer.is_success:
                raise UserError("the backend refused", str(answer.request.url), problem_text(answer))
            return dict(answer.json())
        await asyncio.sleep(min(RETRY_AFTER_S_MAX, _retry_after_s(answer)))
    raise UserError(
        "the backend lets nobody enrol", str(client.base_url), "raise [limits] enrolment_per_second there"
    )


def _retry_after_s(answer: httpx.Response) -> float:
    try:
        return max(0.1, float(answer.headers.get("retry-after", "1")))
    except ValueError:
        return 1.0
