"""Every credit, transfer, carry and hold computed again from accepted reports and the tariff.

Place in the flow: ``verifying`` hands in each judgement with what the log and the ledger say of it;
``rows_audit`` compares the sums with the accounts at the end.

Rules it keeps: the price is the backend's own ``ledger.pricing``. A batch that pays has exactly one transfer,
with the id and the content that follow from it; one that doesn't has none; there is no transfer of any other
kind. Balances are the sums of the legs that are stored, and no owner's ever goes below zero.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from surge_backend.audit import findings as kinds
from surge_backend.audit.findings import Findings
from surge_backend.audit.items import TransferItem
from surge_backend.audit.shapes import Row
from surge_backend.ledger.earnings import count_work
from surge_backend.ledger.posting import BATCH, content_hash, transfer_id
from surge_backend.ledger.pricing import ISSUANCE, Priced, Tariff, owner_account, price_batch
from surge_backend.verify.device import DeviceKey
from surge_backend.verify.history import DeviceHistory
from surge_backend.verify.judging import Judgement
from surge_wire.settlement import Settlement


@dataclass(slots=True)
class AuditedHold:
    """What had to be held of a device when it was frozen."""

    device_id: str
    account: str
    amount: int
    created_ms: int
    released_ms: int | None = None


class MoneyAudit:
    """Accounts and holds as they have to be, so far."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.balances: dict[str, int] = {}  # the sums of stored legs
        self.carries: dict[str, int] = {}
        self.holds: list[AuditedHold] = []
        self._live_holds: dict[str, list[AuditedHold]] = {}
        self._held: dict[str, int] = {}

    def settle(
        self,
        settlement: Settlement,
        tariff: Tariff,
        judgement: Judgement,
        before: Mapping[str, DeviceHistory],
        devices: Mapping[str, DeviceKey],
        operator_id: str,
        where: str,
    ) -> None:
        """Price a batch, and compare with the credits in the log."""
        work = count_work(tariff, before, judgement.histories, devices)
        priced = Priced((), {})
        if work:
            priced = price_batch(tariff, work, owner_account(operator_id), self.carries)
            self.carries.update(priced.carries)
        expected, found = list(priced.credits), settlement.credits
        if expected != found:
            wanted, given = dict(expected), dict(found)
            account = min(
                (name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name)),
                key=lambda name: (name == ISSUANCE, name),  # who gets it says more than where it is from
                default="their order",
            )
            place = f"{where}, account {account}"
            what = "a credit doesn't follow from the accepted reports and the tariff"
            self._findings.lie(kinds.CREDIT, what, place, wanted.get(account), given.get(account))
        self._findings.checked["credits"] += len(found)

    def post(self, settlement: Settlement, index: int, transfers: Iterable[TransferItem], where: str) -> None:
        """Check the transfers of one entry, and take in what they move."""
        due = transfer_id(BATCH, settlement.batch_hash) if settlement.credits else None
        for transfer in transfers:
            if transfer.id != due:
                self._unasked(transfer, where)
            else:
                due = None
                self._check_transfer(transfer, settlement, index, where)
            self._move(transfer, where)
        if due is not None:
            what = "an entry credits accounts, and its transfer is missing"
            self._findings.lie(kinds.TRANSFER, what, where, f"transfer {due.hex()}", None)

    def other_transfer(self, transfer: TransferItem) -> None:
        """A transfer that belongs to no entry."""
        self._unasked(transfer, "the ledger")
        self._move(transfer, "the ledger")

    def hold(self, device: DeviceKey, earned: int, time_ms: int) -> None:
        """A device is frozen: what it earned is held, as far as it is unpaid and not held already."""
        account = owner_account(device.owner_id)
        held = self._held.get(account, 0)
        amount = min(earned, max(0, self.balances.get(account, 0) - held))
        hold = AuditedHold(device.device_id, account, amount, time_ms)
        self.holds.append(hold)
        self._live_holds.setdefault(device.device_id, []).append(hold)
        self._held[account] = held + amount

    def release(self, device_id: str, time_ms: int) -> None:
        """Everything held of a device is free again."""
        for hold in self._live_holds.pop(device_id, []):
            hold.released_ms = time_ms
            self._held[hold.account] -= hold.amount

    def _unasked(self, transfer: TransferItem, where: str) -> None:
        what = "a transfer that no entry of the log asks for"
        place = f"{where}, transfer {transfer.id.hex()} of kind {transfer.kind}"
        self._findings.lie(kinds.TRANSFER, what, place, "no transfer", transfer.legs)

    def _check_transfer(self, transfer: TransferItem, settlement: Settlement, index: int, where: str) -> None:
        found = self._findings
        place = f"{where}, transfer {transfer.id.hex()}"
        expected: list[Row] = [(account, amount) for account, amount in settlement.credits]
        if transfer.legs != expected:
            pairs = zip([*expected, None], [*transfer.legs, None], strict=False)
            wanted, given = next(((a, b) for a, b in pairs if a != b), (expected[-1:], transfer.legs[-1:]))
            what = "a transfer moves something else than its settlement says"
            found.lie(kinds.TRANSFER, what, place, wanted, given)
        facts = (BATCH, settlement.batch_hash, index, settlement.received_ms)
        stored = (transfer.kind, transfer.reference, transfer.log_index, transfer.created_ms)
        found.equal(kinds.TRANSFER, "a transfer is not what it is for", place, facts, stored)
        digest = content_hash(BATCH, settlement.batch_hash, settlement.credits)
        what = "a transfer's content hash is not that of what it moves"
        found.equal(kinds.TRANSFER, what, place, digest, transfer.content_hash)
        found.checked["transfers"] += 1

    def _move(self, transfer: TransferItem, where: str) -> None:
        for account, amount in transfer.legs:
            balance = self.balances[account] = self.balances.get(account, 0) + amount
            if balance < 0 and account != ISSUANCE:
                what = "an account went below zero"
                place = f"{where}, account {account}"
                self._findings.lie(kinds.ACCOUNT, what, place, "at least 0", balance)
