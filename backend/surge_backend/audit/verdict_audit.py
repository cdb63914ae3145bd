"""Every verdict decided again, by the code that the backend decides with.

Place in the flow: ``verifying`` hands in each batch once its gateway's signature is checked; ``money_audit``
prices the judgement; then `keep` makes it part of the history.

Does not: need a secret. Without a device's report key, whether a MAC is right is taken as the settlement
says; with it, it is checked. Everything else follows from the batches and the registry's events.
"""

from collections.abc import Sequence

from surge_backend.audit import findings as kinds
from surge_backend.audit.findings import Findings
from surge_backend.audit.items import BatchPart
from surge_backend.audit.macs import TRUSTED
from surge_backend.audit.names import AcceptedNames
from surge_backend.audit.registry_audit import RegistryAudit
from surge_backend.verify.history import BootHistory, DeviceHistory
from surge_backend.verify.judging import Judgement, ReportName, judge_reports, names_to_look_up
from surge_backend.verify.limits import VerifyLimits
from surge_backend.verify.plain import read_reports
from surge_backend.verify.reading import ReadReport
from surge_wire.settlement import Settlement
from surge_wire.verdicts import ACCEPTED, BAD_MAC, EQUIVOCATION, FORKED_HISTORY, NAMES


class VerdictAudit:
    """What is known of every device's counters so far."""

    def __init__(self, findings: Findings, registry: RegistryAudit, limits: VerifyLimits) -> None:
        self._findings = findings
        self._registry = registry
        self._limits = limits
        self._boots_kept = limits.boot_window + 1  # as ingest.histories keeps them
        self.histories: dict[str, DeviceHistory] = {}
        self.old_boots: dict[str, dict[int, BootHistory]] = {}  # too far behind to change again
        self.accepted = AcceptedNames()
        self._evidence: set[ReportName] = set()  # names that were refused as evidence
        self.macs_taken = 0

    def judge(
        self, reports: Sequence[bytes], settlement: Settlement, where: str
    ) -> tuple[list[ReadReport], Judgement]:
        """Decide on the reports of a batch, and compare with its settlement."""
        read = read_reports(reports, self._registry.by_kid)
        self._take_macs(read, settlement)
        devices = self._registry.devices
        stored = self.accepted.look_up(names_to_look_up(read, self.histories))
        now_ms = settlement.received_ms
        judgement = judge_reports(read, devices, self.histories, stored, self._limits, now_ms)
        settled: set[ReportName] = set()
        while before := self._seen_before(judgement) - settled:
            settled |= before
            judgement = judge_reports(read, devices, self.histories, stored, self._limits, now_ms, settled)
        self._compare(read, judgement, settlement, where)
        return read, judgement

    def keep(self, read: Sequence[ReadReport], judgement: Judgement, index: int) -> None:
        """What was judged is history from now on; evidence freezes its device."""
        for report in judgement.accepted:
            self.accepted.add(report, index)
        for device_id, history in judgement.histories.items():
            history.settle()
            if len(history.earlier) >= self._boots_kept:
                old = history.forget_before(history.boot_max - self._boots_kept)
                self.old_boots.setdefault(device_id, {}).update(old)
            self.histories[device_id] = history
        if len(judgement.accepted) != len(read):
            for position, (code, _) in enumerate(judgement.verdicts):
                if code in (EQUIVOCATION, FORKED_HISTORY):
                    report = read[position]
                    self._evidence.add((report.device_id or "", report.boot, report.seq))
        for evidence in judgement.evidence:
            self._registry.freeze(evidence.device_id, index)

    def check_rejections(
        self, read: Sequence[ReadReport], judgement: Judgement, part: BatchPart, where: str
    ) -> None:
        """The stored rows of rejected reports, which owners are shown, say what was judged."""
        expected = []
        for position, (code, _) in enumerate(judgement.verdicts):
            if code != ACCEPTED:
                item = read[position]
                boot, seq = (item.boot, item.seq) if item.boot >= 0 else (None, None)
                expected.append((position, item.device_id, boot, seq, code))
        if expected != part.rejections:
            what = "the stored rejections are not the batch's"
            wanted, given = set(expected), set(part.rejections)
            differing = [row for row in part.rejections if row not in wanted]
            missing = [row for row in expected if row not in given]
            self._findings.lie(
                kinds.REJECTION, what, where, missing[:1] or "no more", differing[:1] or "fewer"
            )

    def _take_macs(self, read: Sequence[ReadReport], settlement: Settlement) -> None:
        """Where a MAC can't be checked, it is as the settlement says."""
        devices = self._registry.devices
        taken = 0
        for report in read:
            if report.fault == ACCEPTED and devices[report.device_id or ""].mac is TRUSTED:
                taken += 1
        self.macs_taken += taken
        self._findings.checked["MACs"] += sum(report.fault in (ACCEPTED, BAD_MAC) for report in read) - taken
        for position, code in settlement.rejections:
            if code == BAD_MAC and position < len(read):
                report = read[position]
                if report.fault == ACCEPTED and devices[report.device_id or ""].mac is TRUSTED:
                    report.fault = BAD_MAC

    def _seen_before(self, judgement: Judgement) -> set[ReportName]:
        return {(item.device_id, item.boot, item.seq) for item in judgement.evidence} & self._evidence

    def _compare(
        self, read: Sequence[ReadReport], judgement: Judgement, settlement: Settlement, where: str
    ) -> None:
        claimed = settlement.verdicts()
        for position, (code, detail) in enumerate(judgement.verdicts):
            said = claimed[position] if position < len(claimed) else None
            if said != code:
                report = read[position]
                place = f"{where}, report {position}"
                if report.device_id is not None:
                    place += f" (device {report.device_id}, boot {report.boot}, seq {report.seq})"
                expected = f"{NAMES[code]}: {detail}" if detail else NAMES[code]
                found = "no verdict" if said is None else NAMES[said]
                self._findings.lie(kinds.VERDICT, "a verdict is wrong", place, expected, found)
        self._findings.checked["verdicts"] += len(judgement.verdicts)
        self._findings.checked["accepted"] += len(judgement.accepted)
