"""One entry of the log after another: its settlement, its batch, its verdicts, its money.

Place in the flow: ``verifying`` hands in entries and the events between them; this puts the parts together
that each check one thing.

Rule kept: in the order of what rests on what: log, settlement, batch and its chain, verdicts, credits,
transfer. An entry that can't be read any further is left there, and counts as a lie.
"""

from hashlib import sha256
from typing import Final

from surge_backend.audit import findings as kinds
from surge_backend.audit.findings import Findings, entry_place
from surge_backend.audit.items import BatchPart, Entry, Event
from surge_backend.audit.log_audit import LogAudit
from surge_backend.audit.money_audit import MoneyAudit
from surge_backend.audit.registry_audit import AuditedGateway, RegistryAudit
from surge_backend.audit.verdict_audit import VerdictAudit
from surge_backend.db.schema import ACTIVE
from surge_backend.registry import events
from surge_backend.verify.windows import window_devices
from surge_wire.batch import Batch, chain_hash, decode_batch, open_batch
from surge_wire.errors import DecodeError
from surge_wire.settlement import Settlement, decode_settlement

_RELEASING: Final = (events.DEVICE_UNFROZEN, events.HOLDS_RELEASED)


class EntryAudit:
    """The log's entries so far."""

    def __init__(
        self,
        findings: Findings,
        full: bool,
        log: LogAudit,
        registry: RegistryAudit,
        verdicts: VerdictAudit,
        money: MoneyAudit,
    ) -> None:
        self.money = money
        self._findings = findings
        self._full = full
        self._log = log
        self._registry = registry
        self._verdicts = verdicts
        self._public_seqs: dict[str, int] = {}  # the next of each gateway, where batches aren't given

    def take_event(self, event: Event) -> None:
        """An event that stands before the next entry."""
        self._registry.take(event, self._log.size)
        if event.kind in _RELEASING:
            self.money.release(event.subject_id, event.time_ms)

    def take(self, entry: Entry) -> None:
        """Check the next entry."""
        self._registry.check_due()
        index = self._log.size
        self._log.take(entry)
        self._findings.checked["entries"] += 1
        try:
            settlement = decode_settlement(entry.settlement)
        except DecodeError as error:
            what, where = "an entry of the log is no settlement", entry_place(index)
            self._findings.lie(kinds.SETTLEMENT, what, where, "a settlement", str(error))
            return
        where = entry_place(index, settlement.batch_hash)
        if not self._full:
            self._public(settlement, where)
        elif entry.batch is None:
            self._findings.lie(kinds.BATCH, "an entry's batch is missing", where, "a batch", None)
        else:
            self._settle(entry.batch, settlement, index, where)

    def finish(self) -> None:
        """The log's end."""
        self._registry.check_due()

    def unchecked(self) -> dict[str, str]:
        """What the checks so far could not decide, and why."""
        if not self._full:
            return {
                "batches, verdicts, prices, accounts": "need an auditor's token: this is the public part",
                "when batches arrived": "the backend's clock",
            }
        left = {
            "registry events": "who was enrolled, unfrozen or retired, and when, is the backend's word",
            "when batches arrived": "the backend's clock; tariffs and lateness go by it",
        }
        if self._verdicts.macs_taken:
            count = self._verdicts.macs_taken
            left[f"MACs of {count:,} reports"] = "they need the devices' report keys (--device-keys)"
        return left

    def _public(self, settlement: Settlement, where: str) -> None:
        expected = self._public_seqs.get(settlement.gateway_id, 0)
        what = f"a batch of {settlement.gateway_id} is missing or out of order"
        self._findings.equal(kinds.CHAIN, what, where, expected, settlement.batch_seq)
        self._public_seqs[settlement.gateway_id] = settlement.batch_seq + 1
        self._findings.checked["credits"] += len(settlement.credits)

    def _settle(self, part: BatchPart, settlement: Settlement, index: int, where: str) -> None:
        found = self._findings
        what = "the batch is not the one that was settled"
        found.equal(kinds.BATCH, what, where, settlement.batch_hash, sha256(part.envelope).digest())
        opened = self._open(part, settlement, where)
        if opened is None:
            return
        gateway_id, gateway, batch = opened
        what = "a settlement names another batch, or another number of reports"
        named = (settlement.gateway_id, settlement.batch_seq, settlement.report_count)
        found.equal(kinds.SETTLEMENT, what, where, (gateway_id, batch.seq, len(batch.reports)), named)
        tariff = self._registry.tariff_at(settlement.received_ms)
        if tariff is None:
            found.lie(kinds.TARIFF, "no tariff was in force", where, "a tariff", None)
            return
        what = "a settlement names another tariff than was in force"
        found.equal(kinds.TARIFF, what, where, tariff.version, settlement.tariff_version)
        read, judgement = self._verdicts.judge(batch.reports, settlement, where)
        self._verdicts.check_rejections(read, judgement, part, where)
        devices, before = self._registry.devices, self._verdicts.histories
        self.money.settle(settlement, tariff, judgement, before, devices, gateway.owner_id, where)
        self.money.post(settlement, index, part.transfers, where)
        self._verdicts.keep(read, judgement, index)
        for evidence in judgement.evidence:
            earned = self._verdicts.histories[evidence.device_id].microcredits
            self.money.hold(devices[evidence.device_id], earned, settlement.received_ms)
        samples = sum(report.samples for report in judgement.accepted)
        counts = (len(batch.reports), len(judgement.accepted), samples)
        chain = (gateway_id, batch.seq, settlement.received_ms)
        stored = (part.gateway_id, part.seq, part.received_ms)
        stored_counts = (part.report_count, part.accepted_count, part.sample_count)
        what = "a batch's row says something else than the batch"
        expected = (settlement.batch_hash, *chain, *counts)
        found.equal(kinds.BATCH, what, where, expected, (part.hash, *stored, *stored_counts))
        allowed = sorted(window_devices(batch, gateway_id, gateway.owner_id, devices))
        what = "windows are taken of other devices than this gateway serves"
        found.equal(kinds.WINDOWS, what, where, allowed, part.window_devices)
        found.checked["batches"] += 1

    def _open(
        self, part: BatchPart, settlement: Settlement, where: str
    ) -> tuple[str, AuditedGateway, Batch] | None:
        """The batch, if its gateway made it and it is the next of its chain."""
        found = self._findings
        try:
            gateway_id, opened = open_batch(part.envelope)
            batch = decode_batch(opened.payload)
        except DecodeError as error:
            found.lie(kinds.BATCH, "not a batch", where, "a signed batch", str(error))
            return None
        gateway = self._registry.gateways.get(gateway_id)
        if gateway is None:
            what = "a batch of a gateway that wasn't enrolled"
            found.lie(kinds.CHAIN, what, where, "an enrolled gateway", gateway_id)
            return None
        what = f"a batch of {gateway_id} was taken after it was revoked"
        found.equal(kinds.CHAIN, what, where, ACTIVE, gateway.status)
        if not gateway.verify(opened.signed, opened.proof):
            what = f"a batch isn't signed by the key that {gateway_id} enrolled with"
            found.lie(kinds.BATCH, what, where, "its signature", "another")
        what = f"a batch of {gateway_id} is missing or out of order"
        found.equal(kinds.CHAIN, what, where, gateway.next_seq, batch.seq)
        what = f"the chain of {gateway_id} is broken: a batch doesn't follow the one before it"
        found.equal(kinds.CHAIN, what, where, gateway.chain_hash, batch.previous)
        gateway.next_seq = batch.seq + 1
        gateway.chain_hash = chain_hash(opened.payload)
        return gateway_id, gateway, batch
