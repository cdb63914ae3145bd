"""Tariffs: versions of the prices, added and never edited.

Place in the flow: ``ingest`` asks which tariff is in force when a batch arrives, on the backend's clock; an
administrator adds the next one. The API lists them.

Does not: price anything (``pricing``), and never changes what was settled: a settlement names its tariff's
version.
"""

from typing import Final

from sqlalchemy import Connection, insert, select

from surge_backend.db.bulk import fetch_one
from surge_backend.db.schema import tariffs
from surge_backend.errors import LedgerRefused
from surge_backend.ledger.pricing import Tariff
from surge_backend.registry.events import (
    GATEWAY_SHARE_BP,
    KIB_MICROCREDITS,
    SAMPLE_MICROCREDITS,
    TARIFF_ADDED,
    VALID_FROM_MS,
    record_event,
)

FIRST_TARIFF: Final = Tariff(version=1, valid_from_ms=0)

_IN_FORCE: Final = (
    "SELECT version, valid_from_ms, sample_microcredits, kib_microcredits, gateway_share_bp FROM tariffs"
    " WHERE valid_from_ms <= {} ORDER BY version DESC LIMIT 1"
)
_FIELDS: Final = (
    tariffs.c.version,
    tariffs.c.valid_from_ms,
    tariffs.c.sample_microcredits,
    tariffs.c.kib_microcredits,
    tariffs.c.gateway_share_bp,
)


def all_tariffs(connection: Connection) -> list[Tariff]:
    """Every tariff, the newest version first."""
    return [Tariff(*row) for row in connection.execute(select(*_FIELDS).order_by(tariffs.c.version.desc()))]


def tariff_at(connection: Connection, time_ms: int) -> Tariff:
    """The tariff in force: the highest version that is valid by ``time_ms``.

    Raises LedgerRefused if there is none.
    """
    row = fetch_one(connection, _IN_FORCE, time_ms)
    if row is None:
        raise LedgerRefused("no tariff is in force; add one")
    return Tariff(*row)


def ensure_first_tariff(connection: Connection, now_ms: int) -> None:
    """Put FIRST_TARIFF where there is none at all."""
    if connection.execute(select(tariffs.c.version).limit(1)).first() is None:
        _insert(connection, FIRST_TARIFF, now_ms)


def add_tariff(connection: Connection, tariff: Tariff, now_ms: int) -> None:
    """Add the next version. Raises LedgerRefused if it is not the next, or would reach into the past."""
    versions = [known.version for known in all_tariffs(connection)]
    following = max(versions, default=0) + 1
    if tariff.version != following:
        raise LedgerRefused(f"the next tariff has version {following}, not {tariff.version}")
    if tariff.valid_from_ms < now_ms and versions:
        raise LedgerRefused("a tariff can't begin in the past: what was settled stays settled")
    _insert(connection, tariff, now_ms)


def _insert(connection: Connection, tariff: Tariff, now_ms: int) -> None:
    connection.execute(
        insert(tariffs).values(
            version=tariff.version,
            valid_from_ms=tariff.valid_from_ms,
            sample_microcredits=tariff.sample_microcredits,
            kib_microcredits=tariff.kib_microcredits,
            gateway_share_bp=tariff.gateway_share_bp,
            created_ms=now_ms,
        )
    )
    detail = {
        VALID_FROM_MS: tariff.valid_from_ms,
        SAMPLE_MICROCREDITS: tariff.sample_microcredits,
        KIB_MICROCREDITS: tariff.kib_microcredits,
        GATEWAY_SHARE_BP: tariff.gateway_share_bp,
    }
    record_event(connection, TARIFF_ADDED, str(tariff.version), now_ms, detail)
