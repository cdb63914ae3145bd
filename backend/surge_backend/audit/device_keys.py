"""The devices' report keys, derived from their sealed secrets where the master key is.

Place in the flow: ``surge export --device-keys-out`` and the demo's end, so that MACs can be checked too.

Rule kept: a secret never leaves this function; of the keys that are derived from it, only the one that
reports are made with does.
"""

from collections.abc import Iterator

from sqlalchemy import select

from surge_backend.db.engine import Database
from surge_backend.db.schema import devices
from surge_backend.keys import SecretVault
from surge_wire.hkdf import INFO_REPORT, derive_key

_ROWS = 1_000


def report_keys(vault: SecretVault, database: Database) -> Iterator[tuple[str, bytes]]:
    """``(device, key)`` of every device that is or was enrolled. Raises SealError."""
    query = select(devices.c.id, devices.c.secret_sealed).order_by(devices.c.id)
    with database.read() as connection:
        for device_id, sealed in connection.execute(query.execution_options(yield_per=_ROWS)):
            yield device_id, derive_key(vault.open(device_id, sealed), INFO_REPORT)
