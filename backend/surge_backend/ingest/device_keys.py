"""The devices as ingest needs them: report key, owner, gateway and status, remembered between batches.

Place in the flow: ``ingest`` asks for the devices that a batch names, first to check MACs, then within the
transaction for their status as of then.

Does not: know how secrets are sealed; ``unseal`` is handed in. Changes nothing.

Rules it keeps: a device's secret never changes, so its derived key may be remembered; everything else follows
``devices.revision``, which rises with every change to any row, so one small query tells whether anything has.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from sqlalchemy import Connection, select

from surge_backend.db.bulk import fetch_one, select_by_keys
from surge_backend.db.schema import devices
from surge_backend.errors import KeyUnreadable
from surge_backend.verify.mac import MacKey
from surge_wire.hkdf import INFO_REPORT, derive_key

DEVICES_REMEMBERED_MAX: Final = (
    100_000  # about 60 MB; past it, those that came first are read again when needed
)

_NEWEST: Final = "SELECT coalesce(max(revision), 0) FROM devices"
_KEYS: Final = "SELECT id, secret_sealed, owner_id, gateway_id, status FROM devices WHERE id IN ({keys})"


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """One enrolled device."""

    device_id: str
    mac: MacKey
    owner_id: str
    gateway_id: str | None
    status: str


@dataclass(frozen=True, slots=True)
class KnownDevices:
    """Those of the devices asked for that are enrolled, as of ``revision``."""

    revision: int
    by_id: Mapping[str, DeviceKey]


class DeviceKeys:
    """Devices of the ``devices`` table; ``unseal(device_id, sealed)`` gives the 32-byte secret, or raises.

    Safe to share between threads.
    """

    def __init__(
        self, unseal: Callable[[str, bytes], bytes], remembered_max: int = DEVICES_REMEMBERED_MAX
    ) -> None:
        self._unseal = unseal
        self._remembered_max = remembered_max
        self._known: dict[str, DeviceKey] = {}
        self._revision = -1
        self._lock = Lock()

    def load(self, connection: Connection, device_ids: Collection[str]) -> KnownDevices:
        """The enrolled ones of ``device_ids``, as ``connection`` sees them, or newer. Raises
        KeyUnreadable."""
        with self._lock:
            self._follow(connection)
            known = self._known
            found = {device_id: known[device_id] for device_id in device_ids if device_id in known}
            missing = [(device_id,) for device_id in device_ids if device_id not in known]
            for row in select_by_keys(connection, _KEYS, missing):
                found[row[0]] = known[row[0]] = self._open(row)
            while len(known) > self._remembered_max:
                del known[next(iter(known))]
            return KnownDevices(self._revision, found)

    def refresh(
        self, connection: Connection, before: KnownDevices, device_ids: Collection[str]
    ) -> KnownDevices:
        """``before`` if nothing has changed since, and otherwise what `load` gives now."""
        if fetch_one(connection, _NEWEST)[0] == before.revision:
            return before
        return self.load(connection, device_ids)

    def _follow(self, connection: Connection) -> None:
        """Take over what changed since the last look."""
        newest = fetch_one(connection, _NEWEST)[0]
        if newest <= self._revision:
            return
        if self._known:
            changed: Any = connection.execute(
                select(devices.c.id, devices.c.owner_id, devices.c.gateway_id, devices.c.status).where(
                    devices.c.revision > self._revision
                )
            )
            for device_id, owner_id, gateway_id, status in changed:
                before = self._known.get(device_id)
                if before is not None:
                    self._known[device_id] = DeviceKey(device_id, before.mac, owner_id, gateway_id, status)
        self._revision = newest

    def _open(self, row: tuple[Any, ...]) -> DeviceKey:
        device_id, sealed, owner_id, gateway_id, status = row
        try:
            secret = self._unseal(device_id, sealed)
        except (
            Exception
        ) as error:  # whatever the vault raises, the answer is the same, and it names no secret
            raise KeyUnreadable(
                f"the secret of {device_id} doesn't open; is the master key the one it was sealed under?"
            ) from error
        return DeviceKey(device_id, MacKey(derive_key(secret, INFO_REPORT)), owner_id, gateway_id, status)
