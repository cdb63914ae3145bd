"""The registry as its events tell it: who was enrolled, active, frozen, and which prices there were, at any
entry.

Place in the flow: ``verifying`` hands in events where they stand between entries; batches and prices are
checked against what this holds.

Does not: know whether an event is true; that rests on the backend's word, but for freezing, which follows
from evidence in a batch. Rule kept: an event that contradicts those before it, or the place where it
stands, is a lie.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from surge_backend.audit import findings as kinds
from surge_backend.audit.findings import Findings, entry_place
from surge_backend.audit.items import Event
from surge_backend.audit.macs import Macs
from surge_backend.db.schema import ACTIVE, FROZEN, RETIRED
from surge_backend.errors import LedgerRefused
from surge_backend.ledger.pricing import Tariff
from surge_backend.registry import events
from surge_backend.verify.device import DeviceKey
from surge_wire.batch import FIRST_PREVIOUS
from surge_wire.ed25519 import verifier
from surge_wire.errors import EncodeError
from surge_wire.ids import DEVICE, GATEWAY, OWNER, is_id
from surge_wire.limits import PUBLIC_KEY_LEN


@dataclass(slots=True)
class AuditedGateway:
    """A gateway, and where its chain stands."""

    owner_id: str
    public_key: bytes
    verify: Callable[[bytes, bytes], bool]
    status: str = ACTIVE
    next_seq: int = 0
    chain_hash: bytes = FIRST_PREVIOUS


class RegistryAudit:
    """Everything enrolled so far. ``released`` are devices whose holds end with the event taken last."""

    def __init__(self, findings: Findings, macs: Macs) -> None:
        self._findings = findings
        self._macs = macs
        self._ordinal = 0
        self.owners: set[str] = set()
        self.gateways: dict[str, AuditedGateway] = {}
        self.devices: dict[str, DeviceKey] = {}
        self.by_kid: dict[bytes, DeviceKey] = {}
        self.tariffs: list[Tariff] = []
        self._due: dict[str, int] = {}  # devices that evidence froze, whose event is to come

    def freeze(self, device_id: str, index: int) -> None:
        """Evidence in the entry at ``index`` freezes a device: its event has to follow."""
        self._due[device_id] = index
        self._set_status(device_id, FROZEN)

    def check_due(self) -> None:
        """Before the next entry: every device that evidence froze has its event."""
        for device_id, index in self._due.items():
            what = "a device that evidence froze has no event that says so"
            where = f"{entry_place(index)}, device {device_id}"
            self._findings.lie(kinds.EVENT, what, where, events.DEVICE_FROZEN, None)
        self._due.clear()

    def tariff_at(self, time_ms: int) -> Tariff | None:
        """The highest version that is valid by ``time_ms``, of those added so far."""
        for tariff in reversed(self.tariffs):
            if tariff.valid_from_ms <= time_ms:
                return tariff
        return None

    def take(self, event: Event, log_size: int) -> None:
        """Take in an event that stands before the entry at ``log_size``."""
        where = f"event {event.ordinal}, {event.kind} of {event.subject_id}"
        found = self._findings
        what = "an event of the registry is missing or out of order"
        found.equal(kinds.EVENT, what, where, self._ordinal + 1, event.ordinal)
        self._ordinal = event.ordinal
        what = "an event stands at another place in the log than it says"
        found.equal(kinds.EVENT, what, where, log_size, event.tree_size)
        handler = _HANDLERS.get(event.kind)
        wrong = "of a kind that is not known" if handler is None else handler(self, event)
        if wrong:
            what = "an event contradicts those before it"
            found.lie(kinds.EVENT, what, where, "an event that can be", wrong)
        found.checked["registry events"] += 1

    def _set_status(self, device_id: str, status: str) -> None:
        known = self.devices[device_id]
        changed = DeviceKey(device_id, known.mac, known.owner_id, known.gateway_id, status)
        self.devices[device_id] = self.by_kid[device_id.encode()] = changed

    def _is_owner(self, owner_id: Any) -> bool:
        return is_id(OWNER, owner_id) and owner_id in self.owners

    def _owner_created(self, event: Event) -> str:
        if not is_id(OWNER, event.subject_id) or event.subject_id in self.owners:
            return "no owner's id, or there is such an owner"
        self.owners.add(event.subject_id)
        return ""

    def _gateway_enrolled(self, event: Event) -> str:
        owner_id, key = event.detail.get(events.OWNER_ID), event.detail.get(events.PUBLIC_KEY)
        if not is_id(GATEWAY, event.subject_id) or event.subject_id in self.gateways:
            return "no gateway's id, or there is such a gateway"
        if not self._is_owner(owner_id) or type(key) is not bytes or len(key) != PUBLIC_KEY_LEN:
            return f"of the owner {owner_id}, who is not there, or without a key"
        try:
            verify = verifier(key)
        except EncodeError as error:
            return str(error)
        self.gateways[event.subject_id] = AuditedGateway(str(owner_id), key, verify)
        return ""

    def _gateway_revoked(self, event: Event) -> str:
        gateway = self.gateways.get(event.subject_id)
        if gateway is None or gateway.status != ACTIVE:
            return "no such gateway, or revoked before"
        gateway.status = RETIRED
        return ""

    def _device_enrolled(self, event: Event) -> str:
        device_id = event.subject_id
        owner_id, gateway_id = event.detail.get(events.OWNER_ID), event.detail.get(events.GATEWAY_ID)
        if not is_id(DEVICE, device_id) or device_id in self.devices:
            return "no device's id, or there is such a device"
        at_known = gateway_id is None or (is_id(GATEWAY, gateway_id) and gateway_id in self.gateways)
        if not self._is_owner(owner_id) or not at_known:
            return f"of the owner {owner_id} at the gateway {gateway_id}, and one of them is not there"
        device = DeviceKey(device_id, self._macs.of(device_id), str(owner_id), gateway_id, ACTIVE)
        self.devices[device_id] = self.by_kid[device_id.encode()] = device
        return ""

    def _device_frozen(self, event: Event) -> str:
        index = self._due.pop(event.subject_id, None)
        if index is None:
            return "no evidence in the batch before it"
        if event.detail.get(events.LOG_INDEX) != index:
            return f"evidence in entry {event.detail.get(events.LOG_INDEX)}, not {index}"
        return ""

    def _device_unfrozen(self, event: Event) -> str:
        return self._change(event, FROZEN, ACTIVE)

    def _device_retired(self, event: Event) -> str:
        device = self.devices.get(event.subject_id)
        return self._change(event, FROZEN if device and device.status == FROZEN else ACTIVE, RETIRED)

    def _holds_released(self, event: Event) -> str:
        device = self.devices.get(event.subject_id)
        return "" if device is not None and device.status != FROZEN else "no such device, or frozen"

    def _change(self, event: Event, before: str, after: str) -> str:
        device = self.devices.get(event.subject_id)
        if device is None or device.status != before:
            return "no such device" if device is None else f"the device is {device.status}"
        self._set_status(event.subject_id, after)
        return ""

    def _tariff_added(self, event: Event) -> str:
        detail: dict[int, Any] = event.detail
        version = len(self.tariffs) + 1
        if event.subject_id != str(version):
            return f"version {event.subject_id}, the next is {version}"
        try:
            tariff = Tariff(version, *(detail.get(label, -1) for label in _TARIFF))
        except LedgerRefused as error:
            return str(error)
        if self.tariffs and tariff.valid_from_ms < event.time_ms:
            return "a tariff that begins in the past"
        self.tariffs.append(tariff)
        return ""


_TARIFF: Final = (
    events.VALID_FROM_MS,
    events.SAMPLE_MICROCREDITS,
    events.KIB_MICROCREDITS,
    events.GATEWAY_SHARE_BP,
)
_HANDLERS: Final = {
    events.OWNER_CREATED: RegistryAudit._owner_created,
    events.GATEWAY_ENROLLED: RegistryAudit._gateway_enrolled,
    events.GATEWAY_REVOKED: RegistryAudit._gateway_revoked,
    events.DEVICE_ENROLLED: RegistryAudit._device_enrolled,
    events.DEVICE_FROZEN: RegistryAudit._device_frozen,
    events.DEVICE_UNFROZEN: RegistryAudit._device_unfrozen,
    events.DEVICE_RETIRED: RegistryAudit._device_retired,
    events.HOLDS_RELEASED: RegistryAudit._holds_released,
    events.TARIFF_ADDED: RegistryAudit._tariff_added,
}
