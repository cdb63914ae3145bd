"""A real database file with the tables of this version, and an owner to hang things on."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from surge_backend.db.engine import Database, open_engine
from surge_backend.db.migrations import upgrade
from surge_backend.keys import SecretVault
from surge_backend.registry.enrolments import (
    KIND_DEVICE,
    KIND_GATEWAY,
    create_enrolment,
    enrol_device,
    enrol_gateway,
)
from surge_backend.registry.owners import create_owner
from surge_backend.registry.tokens import hash_token
from surge_wire import ed25519

NOW_MS = 1_800_000_000_000


@dataclass
class Registry:
    """The database and shortcuts that go through the real functions."""

    database: Database
    vault: SecretVault = field(default_factory=lambda: SecretVault(bytes(32)))
    now_ms: int = NOW_MS

    def owner(self, name: str = "Ada") -> str:
        with self.database.write() as connection:
            return create_owner(connection, name, self.now_ms)

    def enrolment(
        self, owner_id: str, kind: str = KIND_DEVICE, gateway_id: str | None = None, life_s: int = 60
    ) -> bytes:
        with self.database.write() as connection:
            made = create_enrolment(
                connection,
                kind=kind,
                owner_id=owner_id,
                gateway_id=gateway_id,
                name="thing",
                now_ms=self.now_ms,
                life_s=life_s,
            )
        return hash_token(made.token)

    def device(self, owner_id: str, secret: bytes, gateway_id: str | None = None) -> str:
        token_hash = self.enrolment(owner_id, gateway_id=gateway_id)
        with self.database.write() as connection:
            return enrol_device(
                connection,
                self.vault,
                token_hash,
                secret=secret,
                board="linux",
                name=None,
                now_ms=self.now_ms,
            ).device_id

    def gateway(self, owner_id: str, seed: bytes = bytes(32)) -> str:
        token_hash = self.enrolment(owner_id, KIND_GATEWAY)
        with self.database.write() as connection:
            return enrol_gateway(
                connection,
                token_hash,
                public_key=ed25519.public_key(seed),
                name="roof",
                now_ms=self.now_ms,
            ).gateway_id


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    database = open_engine(database_url)
    upgrade(database)
    yield Registry(database)
    database.close()
