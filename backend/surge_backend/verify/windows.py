"""Which devices' windows and summaries a gateway may give: pure, the same for the backend and for an auditor.

Place in the flow: ``ingest`` stores the answer with the batch; the projector and the list of gaps go by it.
"""

from collections.abc import Mapping

from surge_backend.verify.device import DeviceKey
from surge_wire.batch import Batch


def window_devices(
    batch: Batch, gateway_id: str, owner_id: str, devices: Mapping[str, DeviceKey]
) -> set[str]:
    """The devices named in windows and summaries that are enrolled at this gateway, or are of its owner and
    enrolled at none. No gateway speaks for another's devices (invariant 6)."""
    named = {window.device_id for window in batch.windows}
    named |= {item.device_id for item in batch.summarised}
    allowed = set()
    for device_id in named:
        device = devices.get(device_id)
        if device is not None and (
            device.gateway_id == gateway_id or (device.gateway_id is None and device.owner_id == owner_id)
        ):
            allowed.add(device_id)
    return allowed
