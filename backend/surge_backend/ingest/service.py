"""Ingest: takes a gateway's batch and answers with the settlement and its receipt.

Place in the flow: the API's ``POST /v1/batches`` calls `submit`; what it stores is read by queries, the
projector and auditors.

Does not: authenticate the token (the caller did), keep a clock, retry, or run in the background. It blocks
on the database, so the caller runs it in a thread.

Rules it keeps:

* one transaction: batch, verdicts, histories, money and log entry are all stored, or none is;
* what can be done without the write lock is done before: signature, decoding, MACs. A device's key never
  changes, so a MAC that was right stays right; status, chain and histories are read again under the lock;
* the same payload again gets the same answer, byte for byte, also after an answer was lost on its way
  (threat 10).
"""

from collections.abc import Callable
from dataclasses import dataclass

from surge_backend.db.alarms import BATCH_CONFLICT, CHAIN_BROKEN, raise_alarm
from surge_backend.db.engine import Database
from surge_backend.errors import BatchConflict, ChainBroken, InvariantViolated
from surge_backend.ingest import submission as opening
from surge_backend.ingest.device_keys import DeviceKeys, KnownDevices
from surge_backend.ingest.histories import Histories
from surge_backend.ingest.settling import Settler, StaleHistory
from surge_backend.ingest.submission import StoredAnswer, Submission
from surge_backend.log import MerkleLog
from surge_backend.verify.limits import DEFAULT_LIMITS, VerifyLimits
from surge_backend.verify.plain import read_reports
from surge_backend.verify.reading import ReadReport, claimed_kids
from surge_wire.settlement import Settlement, decode_settlement


@dataclass(frozen=True, slots=True)
class SubmissionResult:
    """``answer`` is the body for the gateway; ``is_new`` is False when the batch had been settled before."""

    answer: bytes
    settlement: Settlement
    log_index: int
    is_new: bool


class Ingest:
    """Settles batches. Safe to call from several threads: they take turns at the database.

    The database is upgraded, has the issuance account and a tariff; ``log`` is open. ``unseal(device_id,
    sealed)`` gives a device's secret.
    """

    def __init__(
        self,
        database: Database,
        log: MerkleLog,
        unseal: Callable[[str, bytes], bytes],
        limits: VerifyLimits = DEFAULT_LIMITS,
    ) -> None:
        self._database = database
        self._log = log
        self._keys = DeviceKeys(unseal)
        self._settler = Settler(log, Histories(limits.boot_window), limits)

    def submit(self, gateway_id: str, envelope: bytes, now_ms: int) -> SubmissionResult:
        """Settle a batch, or give the answer that it got before.

        ``gateway_id`` is who the caller authenticated, ``now_ms`` the backend's clock. Raises
        BatchRefused's kinds, StoreBusy, StoreFull, LogForked, KeyUnreadable; nothing is stored then, but for
        the alarms of BatchConflict and ChainBroken.
        """
        try:
            return self._submit(gateway_id, envelope, now_ms)
        except (BatchConflict, ChainBroken) as error:
            kind = BATCH_CONFLICT if isinstance(error, BatchConflict) else CHAIN_BROKEN
            with self._database.write() as connection:
                raise_alarm(connection, kind, gateway_id, str(error), now_ms)
            raise

    def _submit(self, gateway_id: str, envelope: bytes, now_ms: int) -> SubmissionResult:
        opened = opening.open_envelope(envelope, gateway_id)
        with self._database.read() as connection:
            sender = opening.load_sender(connection, gateway_id)
            opening.check_signature(sender, opened)
            submission = opening.open_payload(sender, opened, envelope)
            before = opening.settled_before(connection, sender, submission)
            if before is not None:
                return _repeated(before)
            kids = _claimed(submission)
            known = self._keys.load(connection, kids)
        read = read_reports(submission.batch.reports, known.by_kid)
        try:
            return self._settle(submission, read, kids, known, now_ms, careful=False)
        except StaleHistory:
            pass
        try:
            return self._settle(submission, read, kids, known, now_ms, careful=True)
        except StaleHistory:
            raise InvariantViolated("a device's row and where its reports stand disagree") from None

    def _settle(
        self,
        submission: Submission,
        read: list[ReadReport],
        kids: set[bytes],
        known: KnownDevices,
        now_ms: int,
        careful: bool,
    ) -> SubmissionResult:
        with self._database.write() as connection:
            sender = opening.load_sender(connection, submission.gateway_id)
            before = opening.settled_before(connection, sender, submission)
            if before is not None:
                return _repeated(before)
            opening.check_chain(sender, submission)
            fresh = self._keys.refresh(connection, known, kids)
            if fresh is not known and fresh.by_kid.keys() != known.by_kid.keys():
                # enrolled since: every verdict is as of its place in the log
                read = read_reports(submission.batch.reports, fresh.by_kid)
            keys = fresh.by_id()
            settled = self._settler.settle(connection, sender, submission, read, keys, now_ms, careful)
        self._log.confirm(settled.appended)
        return SubmissionResult(settled.answer, settled.settlement, settled.appended.index, True)


def _claimed(submission: Submission) -> set[bytes]:
    """Every device that the batch speaks of, or what stands in a device's place."""
    batch = submission.batch
    kids = claimed_kids(batch.reports)
    kids.update(window.device_id.encode() for window in batch.windows)
    kids.update(item.device_id.encode() for item in batch.summarised)
    return kids


def _repeated(stored: StoredAnswer) -> SubmissionResult:
    return SubmissionResult(stored.answer, decode_settlement(stored.settlement), stored.log_index, False)
