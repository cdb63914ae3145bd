"""The devices as ingest needs them: report key, owner, gateway and status, remembered between batches.

Place in the flow: ``ingest`` asks for the devices that a batch names, first to check MACs, then within the
transaction for their status as of then.

Does not: know how secrets are sealed; ``unseal`` is handed in. Changes nothing.

Rules it keeps: a device's secret never changes, so its derived key may be remembered; everything else follows
``devices.revision``, which rises with every change to any row, so one small query tells whether anything has.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from sqlalchemy import Connection, select

from surge_backend.db.bulk import fetch_one, select_by_keys
from surge_backend.db.schema import devices
from surge_backend.errors import KeyUnreadable
from surge_backend.verify.device import DeviceKey
from surge_backend.verify.mac import MacKey
from surge_wire.errors import DecodeError
from surge_wire.hkdf import INFO_REPORT, derive_key
from surge_wire.ids import DEVICE, decode_id

# About 60 MB; past it, those that came first are read again when needed.
DEVICES_REMEMBERED_MAX: Final = 100_000

_NEWEST: Final = "SELECT coalesce(max(revision), 0) FROM devices"
_KEYS: Final = "SELECT id, secret_sealed, owner_id, gateway_id, status FROM devices WHERE id IN ({keys})"


@dataclass(frozen=True, slots=True)
class KnownDevices:
    """Those of the devices asked for that are enrolled, as of ``revision``; by the id as bytes, as envelopes
    have it."""

    revision: int
    by_kid: Mapping[bytes, DeviceKey]

    def by_id(self) -> dict[str, DeviceKey]:
        """The same by the id as text."""
        return {key.device_id: key for key in self.by_kid.values()}


class DeviceKeys:
    """Devices of the ``devices`` table; ``unseal(device_id, sealed)`` gives the 32-byte secret, or raises.

    Safe to share between threads.
    """

    def __init__(
        self, unseal: Callable[[str, bytes], bytes], remembered_max: int = DEVICES_REMEMBERED_MAX
    ) -> None:
        self._unseal = unseal
        self._remembered_max = remembered_max
        self._known: dict[bytes, DeviceKey] = {}
        self._revision = -1
        self._lock = Lock()

    def load(self, connection: Connection, kids: Collection[bytes]) -> KnownDevices:
        """The enrolled ones of ``kids``, as ``connection`` sees them, or newer. What can't be an id is none.

        Raises KeyUnreadable.
        """
        with self._lock:
            revision = self._follow(connection)
            known = self._known
            found = {kid: known[kid] for kid in kids if kid in known}
            if len(found) < len(kids):
                missing = [(device_id,) for device_id in _ids(kid for kid in kids if kid not in known)]
                for row in select_by_keys(connection, _KEYS, missing):
                    kid = row[0].encode()
                    found[kid] = self._open(row)
                    if revision == self._revision:  # an older snapshot's status is not to be remembered
                        known[kid] = found[kid]
                while len(known) > self._remembered_max:
                    del known[next(iter(known))]
            return KnownDevices(revision, found)

    def refresh(self, connection: Connection, before: KnownDevices, kids: Collection[bytes]) -> KnownDevices:
        """``before`` if nothing has changed since, and otherwise what `load` gives now."""
        if fetch_one(connection, _NEWEST)[0] == before.revision:
            return before
        return self.load(connection, kids)

    def _follow(self, connection: Connection) -> int:
        """Take over what changed since the last look; gives the revision that ``connection`` sees, which is
        older than what is remembered where its snapshot began earlier."""
        newest = int(fetch_one(connection, _NEWEST)[0])
        if newest <= self._revision:
            return newest
        if self._known:
            changed: Any = connection.execute(
                select(devices.c.id, devices.c.owner_id, devices.c.gateway_id, devices.c.status).where(
                    devices.c.revision > self._revision
                )
            )
            for device_id, owner_id, gateway_id, status in changed:
                kid = device_id.encode()
                before = self._known.get(kid)
                if before is not None:
                    self._known[kid] = DeviceKey(device_id, before.mac, owner_id, gateway_id, status)
        self._revision = newest
        return newest

    def _open(self, row: tuple[Any, ...]) -> DeviceKey:
        device_id, sealed, owner_id, gateway_id, status = row
        try:
            secret = self._unseal(device_id, sealed)
        except Exception as error:
            # whatever the vault raises, the answer is the same, and it names no secret
            raise KeyUnreadable(
                f"the secret of {device_id} doesn't open; is the master key the one it was sealed under?"
            ) from error
        return DeviceKey(device_id, MacKey(derive_key(secret, INFO_REPORT)), owner_id, gateway_id, status)


def _ids(kids: Iterable[bytes]) -> Iterator[str]:
    for kid in kids:
        try:
            yield decode_id(DEVICE, kid)
        except DecodeError:
            continue
