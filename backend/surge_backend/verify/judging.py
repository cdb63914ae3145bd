"""Judging the reports of a batch: counters, replays, clones, late ones. One verdict each, the first rule
that fails.

Place in the flow: ``reading`` made `ReadReport`s, ``ingest`` gave the histories and the names that are
stored; the `Judgement` goes back to ``ingest``, which stores all of it in one transaction.

Does not: read a clock or a database. ``now_ms`` is the backend's time; what a device says about time decides
nothing.

Rules it keeps, in this order (after malformed, unknown_device and bad_mac, which ``reading`` found):

1. device_retired;
2. duplicate, or equivocation, which freezes the device;
3. device_frozen;
4. gap_too_large;
5. boot_rollback;
6. too_late;
7. forked_history, which freezes the device;
8. accepted.

A report that was evidence before, of a device that goes on since, is refused again and freezes nothing: an
administrator has looked, and whoever kept a copy must not undo that by sending it once more.

Order inside a batch is the batch's: a report is judged by all that were accepted before it. Only accepted
reports change a history, so nothing that was rejected can lock a device out (threat 6).
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from surge_backend.db.schema import ACTIVE, FROZEN, RETIRED
from surge_backend.verify.device import DeviceKey
from surge_backend.verify.evidence import Evidence
from surge_backend.verify.history import DeviceHistory
from surge_backend.verify.limits import VerifyLimits
from surge_backend.verify.reading import ReadReport
from surge_wire.verdicts import (
    ACCEPTED,
    BOOT_ROLLBACK,
    DEVICE_FROZEN,
    DEVICE_RETIRED,
    DUPLICATE,
    EQUIVOCATION,
    FORKED_HISTORY,
    GAP_TOO_LARGE,
    TOO_LATE,
)

ReportName = tuple[str, int, int]  # device, boot, seq


@dataclass(frozen=True, slots=True)
class StoredReport:
    """An accepted report that is stored, or stands earlier in the same batch (then ``log_index`` is None)."""

    digest: bytes
    log_index: int | None
    position: int


@dataclass(slots=True)
class Judgement:
    """``verdicts[i]`` is ``(code, detail)`` of report i. ``histories`` are changed copies of those devices
    that had a report accepted. ``accepted`` are the reports to store and pay."""

    verdicts: list[tuple[int, str]] = field(default_factory=list)
    accepted: list[ReadReport] = field(default_factory=list)
    histories: dict[str, DeviceHistory] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)


_ACCEPTED = (ACCEPTED, "")


def names_to_look_up(
    reports: Sequence[ReadReport], histories: Mapping[str, DeviceHistory]
) -> set[ReportName]:
    """Names that may be stored already; of all others the history says that they aren't."""
    names = set()
    for read in reports:
        device_id = read.device_id
        if read.fault == ACCEPTED and device_id is not None:
            history = histories.get(device_id)
            if history is None or read.boot > history.boot_max:
                continue
            if read.boot == history.boot_max and read.seq > history.seq_max:
                continue  # the common case, without a call
            if history.may_have(read.boot, read.seq):
                names.add((device_id, read.boot, read.seq))
    return names


def judge_reports(
    reports: Sequence[ReadReport],
    devices: Mapping[str, DeviceKey],
    histories: Mapping[str, DeviceHistory],
    stored: Mapping[ReportName, StoredReport],
    limits: VerifyLimits,
    now_ms: int,
    settled_evidence: Set[ReportName] = frozenset(),
) -> Judgement:
    """Decide on every report. ``settled_evidence``: names that froze a device which goes on since.
    ``devices`` and ``histories`` are of the devices whose reports read well; a device without a history
    has sent nothing yet. ``stored`` answers for `names_to_look_up`. None of them is
    changed."""
    judge = _Judge(devices, histories, stored, limits, now_ms, settled_evidence)
    for read in reports:
        judge.judge(read)
    return judge.made


class _Judge:
    def __init__(
        self,
        devices: Mapping[str, DeviceKey],
        histories: Mapping[str, DeviceHistory],
        stored: Mapping[ReportName, StoredReport],
        limits: VerifyLimits,
        now_ms: int,
        settled_evidence: Set[ReportName],
    ) -> None:
        self.made = Judgement()
        self._devices = devices
        self._histories = histories
        self._stored = stored
        self._limits = limits
        self._now_ms = now_ms
        self._settled_evidence = settled_evidence
        self._frozen: set[str] = set()
        self._in_batch: dict[ReportName, StoredReport] = {}
        self._in_batch_count = 0  # of the accepted reports, those that _in_batch has

    def judge(self, read: ReadReport) -> None:
        device_id = read.device_id
        made = self.made
        if read.fault != ACCEPTED or device_id is None:
            made.verdicts.append((read.fault, read.detail))
            return
        history = made.histories.get(device_id)
        is_own = history is not None
        if history is None:
            history = self._histories.get(device_id) or DeviceHistory(device_id)
        # The common case, for which every rule of `_verdict` holds: a little ahead, in the newest boot.
        is_next = (
            read.boot == history.boot_max
            and 0 <= history.seq_max < read.seq <= history.seq_max + self._limits.seq_gap_max
            and read.previous_end is None
            and self._devices[device_id].status == ACTIVE
            and device_id not in self._frozen
        )
        verdict = _ACCEPTED if is_next else self._verdict(read, device_id, history)
        made.verdicts.append(verdict)
        if verdict is not _ACCEPTED:
            return
        if not is_own:
            history = made.histories[device_id] = history.copy()
        accepted = (read.seq, read.position, read.samples, read.length)
        history.count(read.boot, accepted, self._now_ms, self._limits.gaps_max)
        if read.previous_end is not None:
            history.declare_end(read.boot, read.previous_end)
        if read.usage is not None:
            history.claimed(read.boot, read.seq, read.usage)
        counter = read.command_counter
        if counter is not None and counter > (history.command_counter or 0):
            history.command_counter = counter
        made.accepted.append(read)

    def _verdict(self, read: ReadReport, device_id: str, history: DeviceHistory) -> tuple[int, str]:
        status = self._devices[device_id].status
        if status == RETIRED:
            return DEVICE_RETIRED, "the device is retired"
        frozen = status == FROZEN or device_id in self._frozen
        if history.may_have(read.boot, read.seq):
            earlier = self._earlier((device_id, read.boot, read.seq))
            if earlier is not None:
                return self._repeated(read, device_id, earlier, frozen)
        if frozen:
            return DEVICE_FROZEN, "the device is frozen; its owner can see why"
        return self._gap(history, read) or self._age(history, read) or self._fork(read, history) or _ACCEPTED

    def _earlier(self, name: ReportName) -> StoredReport | None:
        """The accepted report of that name, stored or in this batch; the batch's are listed when first asked
        for."""
        for read in self.made.accepted[self._in_batch_count :]:
            if read.device_id is not None:
                known = StoredReport(read.digest, None, read.position)
                self._in_batch[read.device_id, read.boot, read.seq] = known
        self._in_batch_count = len(self.made.accepted)
        return self._in_batch.get(name) or self._stored.get(name)

    def _repeated(
        self, read: ReadReport, device_id: str, earlier: StoredReport, frozen: bool
    ) -> tuple[int, str]:
        where = "this batch" if earlier.log_index is None else f"batch {earlier.log_index}"
        if earlier.digest == read.digest:
            return DUPLICATE, f"accepted before, in {where} at {earlier.position}"
        if not frozen:
            self._freeze(
                Evidence(
                    EQUIVOCATION,
                    device_id,
                    read.boot,
                    read.seq,
                    read.position,
                    read.digest,
                    other_digest=earlier.digest,
                    other_log_index=earlier.log_index,
                    other_position=earlier.position,
                )
            )
        return EQUIVOCATION, f"another report of this name was accepted, in {where} at {earlier.position}"

    def _gap(self, history: DeviceHistory, read: ReadReport) -> tuple[int, str] | None:
        limits = self._limits
        if read.boot > history.boot_max + limits.boot_gap_max:
            return GAP_TOO_LARGE, (
                f"boot {read.boot} is more than {limits.boot_gap_max} after the newest, {history.boot_max}"
            )
        # Boots before the window may be remembered or not; a verdict mustn't depend on that.
        in_window = read.boot >= history.boot_max - limits.boot_window
        boot = history.boot(read.boot) if in_window else None
        seq_max = -1 if boot is None else boot.seq_max
        if read.seq > seq_max + limits.seq_gap_max:
            return (
                GAP_TOO_LARGE,
                f"seq {read.seq} is more than {limits.seq_gap_max} after the newest, {seq_max}",
            )
        return None

    def _age(self, history: DeviceHistory, read: ReadReport) -> tuple[int, str] | None:
        limits = self._limits
        if read.boot < history.boot_max:
            if read.boot < history.boot_max - limits.boot_window:
                return BOOT_ROLLBACK, (
                    f"boot {read.boot} is more than {limits.boot_window} before the newest,"
                    f" {history.boot_max}"
                )
            since = history.successor_first_seen_ms(read.boot)
            if since is not None and self._now_ms - since > limits.late_ms_max:
                return TOO_LATE, f"the next boot is known for more than {limits.late_ms_max} ms"
        boot = history.boot(read.boot)
        if boot is not None and read.seq < boot.seq_max - limits.reorder_window:
            return TOO_LATE, (
                f"seq {read.seq} is more than {limits.reorder_window} before the newest, {boot.seq_max}"
            )
        if boot is not None and read.seq < boot.gaps_from:
            return TOO_LATE, (
                f"seq {read.seq} is before {boot.gaps_from}, and {limits.gaps_max} gaps are open after it"
            )
        return None

    def _fork(self, read: ReadReport, history: DeviceHistory) -> tuple[int, str] | None:
        following = history.boot(read.boot + 1)
        if (
            following is not None
            and following.previous_end is not None
            and read.seq >= following.previous_end
        ):
            ended, declared, seen = read.boot, following.previous_end, read.seq
        elif read.previous_end is None:
            return None
        else:
            before = history.boot(read.boot - 1)
            if before is None or before.seq_max < read.previous_end:
                return None
            ended, declared, seen = read.boot - 1, read.previous_end, before.seq_max
        self._freeze(
            Evidence(
                FORKED_HISTORY,
                history.device_id,
                read.boot,
                read.seq,
                read.position,
                read.digest,
                ended_boot=ended,
                declared_end=declared,
                seq_seen=seen,
            )
        )
        return (
            FORKED_HISTORY,
            f"boot {ended} was declared to end before {declared}, and there is a report {seen}",
        )

    def _freeze(self, evidence: Evidence) -> None:
        if (evidence.device_id, evidence.boot, evidence.seq) not in self._settled_evidence:
            self._frozen.add(evidence.device_id)
            self.made.evidence.append(evidence)
