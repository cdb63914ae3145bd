"""The state of the demo at one moment, gathered from the running parts.

Place in the flow: between ``demo.network`` and ``demo.view``. Asks the backend as an owner would, and the
gateway's status page.
"""

from dataclasses import dataclass

from surge_cli.demo.network import Network
from surge_host.errors import UserError

READINGS_SHOWN = (("cpu", "cpu"), ("mem_free", "free memory"), ("disk_free", "free disk"), ("temp", "chip"))


@dataclass(frozen=True)
class DeviceRow:
    """One device along the flow; counts of reports."""

    name: str
    device_id: str
    linked: bool
    boot: int
    heap_free: int
    made: int
    acknowledged: int
    accepted: int
    microcredits: int
    reading: str


@dataclass(frozen=True)
class Snapshot:
    """Everything that the view shows."""

    devices: tuple[DeviceRow, ...]
    gateway_received: int
    gateway_batches: int
    gateway_waiting: int
    receipts_verified: int
    accepted: int
    rejected: int
    telemetry_points: int
    tree_size: int
    credited_microcredits: int

    @property
    def made(self) -> int:
        """Reports that devices made."""
        return sum(device.made for device in self.devices)

    @property
    def acknowledged(self) -> int:
        """Reports that devices know to be on the gateway's disk."""
        return sum(device.acknowledged for device in self.devices)


def human_reading(name: str, unit: str, value: object) -> str:
    """A sample in few characters, for example ``cpu 12.5 %`` or ``free memory 11.2 GiB``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if unit == "B":
            amount = float(value)
            for size in ("B", "KiB", "MiB", "GiB", "TiB"):
                if amount < 1024 or size == "TiB":
                    return f"{name} {amount:.1f} {size}"
                amount /= 1024
        return f"{name} {value:g} {'°C' if unit == 'Cel' else unit}".rstrip()
    return f"{name} {value}"


async def _reading(network: Network, device_id: str) -> str:
    try:
        latest = await network.owner.get(f"/v1/devices/{device_id}/telemetry/latest")
    except UserError:
        return ""  # the store is derived: that it is behind or away is shown by the totals
    found = {sample["name"]: sample for sample in latest}
    return ", ".join(
        human_reading(shown, found[name]["unit"], found[name]["value"])
        for name, shown in READINGS_SHOWN
        if name in found
    )


async def take_snapshot(network: Network) -> Snapshot:
    """Ask every part how it is."""
    stats = await network.public.get("/v1/stats")
    listed = await network.owner.get("/v1/devices")
    totals = {device["device_id"]: device["totals"] for device in listed}
    gateway = await network.gateway.status()
    rows = []
    for device in network.devices:
        status = device.status
        own = totals.get(device.device_id, {"reports": 0, "microcredits": 0})
        rows.append(
            DeviceRow(
                name=device.called,
                device_id=device.device_id,
                linked=status.linked,
                boot=status.boot,
                heap_free=status.heap_free,
                made=status.made,
                acknowledged=status.acknowledged,
                accepted=own["reports"],
                microcredits=own["microcredits"],
                reading=await _reading(network, device.device_id),
            )
        )
    return Snapshot(
        devices=tuple(rows),
        gateway_received=gateway["reports"]["stored"],
        gateway_batches=gateway["batches"]["sealed"],
        gateway_waiting=gateway["batches"]["backlog"],
        receipts_verified=gateway["batches"]["confirmed"],
        accepted=stats["reports_accepted"],
        rejected=stats["reports_rejected"],
        telemetry_points=stats["telemetry_points"] or 0,  # null while the store is busy
        tree_size=stats["tree_size"],
        credited_microcredits=stats["credited_microcredits"],
    )
