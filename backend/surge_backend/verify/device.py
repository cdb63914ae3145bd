"""An enrolled device as verification needs it.

Place in the flow: ``ingest`` loads these; ``plain`` and ``reading`` use the key, ``judging`` the status.
"""

from dataclasses import dataclass

from surge_backend.verify.mac import MacKey


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """One device: the key of its reports, its owner, the gateway that it is enrolled at (None: any), its
    status."""

    device_id: str
    mac: MacKey
    owner_id: str
    gateway_id: str | None
    status: str
