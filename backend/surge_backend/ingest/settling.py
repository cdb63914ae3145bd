"""Settling a batch: from verdicts to money, log entry and answer, within the caller's transaction.

Place in the flow: `Ingest` has checked the sender, the chain and every MAC; this decides and writes all the
rest.

Rules it keeps: everything here commits together or not at all. What is paid is counted from accepted reports
alone: samples and envelope bytes; a device's own counters are stored as claims and never priced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from surge_backend.db.bulk import select_by_keys
from surge_backend.errors import InvariantViolated
from surge_backend.ingest import places, records
from surge_backend.ingest.freezing import freeze_device
from surge_backend.ingest.histories import Histories
from surge_backend.ingest.submission import Sender, Submission
from surge_backend.ledger.earnings import count_work
from surge_backend.ledger.posting import BATCH, Transfer, open_owner_accounts, post, set_carries
from surge_backend.ledger.pricing import Priced, Tariff, owner_account, price_batch
from surge_backend.ledger.tariffs import tariff_at
from surge_backend.log import Appended, MerkleLog
from surge_backend.verify.device import DeviceKey
from surge_backend.verify.history import DeviceHistory
from surge_backend.verify.judging import (
    Judgement,
    ReportName,
    StoredReport,
    judge_reports,
    names_to_look_up,
)
from surge_backend.verify.limits import VerifyLimits
from surge_backend.verify.reading import ReadReport
from surge_backend.verify.windows import window_devices
from surge_wire.settlement import Settlement, encode_settlement
from surge_wire.submission import encode_submission
from surge_wire.verdicts import ACCEPTED, EQUIVOCATION, FORKED_HISTORY

_CARRIES: Final = "SELECT id, carry FROM accounts WHERE id IN ({keys})"
_EVIDENCE: Final = (
    "SELECT device_id, boot, seq, code FROM rejections WHERE (device_id, boot, seq) IN ({keys})"
)


class StaleHistory(Exception):
    """The histories that were remembered are not those of the database."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settled batch gives back."""

    settlement: Settlement
    answer: bytes
    appended: Appended


@dataclass(frozen=True, slots=True)
class Settler:
    """The parts that settling needs; one for the life of the process."""

    log: MerkleLog
    histories: Histories
    limits: VerifyLimits

    def settle(
        self,
        connection: Connection,
        sender: Sender,
        submission: Submission,
        read: Sequence[ReadReport],
        keys: Mapping[str, DeviceKey],
        now_ms: int,
        careful: bool = False,
    ) -> Settled:
        """Decide on every report and write everything. With ``careful``, forget all histories before.

        Raises StaleHistory where that is needed, LogForked, LedgerError.
        """
        devices = {item.device_id for item in read if item.fault == ACCEPTED and item.device_id is not None}
        root = self.log.head(connection)[0].root
        if careful:
            self.histories.forget()
        histories = self.histories.load(connection, devices, root)
        stored = _load_stored(connection, names_to_look_up(read, histories), histories)
        judgement = judge_reports(read, keys, histories, stored, self.limits, now_ms)
        settled_evidence: set[ReportName] = set()
        while seen_before := _seen_before(connection, judgement) - settled_evidence:
            settled_evidence |= seen_before
            judgement = judge_reports(read, keys, histories, stored, self.limits, now_ms, settled_evidence)

        tariff = tariff_at(connection, now_ms)
        priced = _price(connection, tariff, histories, judgement, keys, sender.owner_id)
        settlement = Settlement(
            submission.hash,
            sender.gateway_id,
            submission.batch.seq,
            now_ms,
            tariff.version,
            len(read),
            [(i, code) for i, (code, _) in enumerate(judgement.verdicts) if code != ACCEPTED],
            list(priced.credits),
        )
        entry = encode_settlement(settlement)
        appended = self.log.append(connection, entry, now_ms)
        answer = encode_submission(entry, appended.receipt)

        if not self.histories.store(connection, judgement.histories, appended.index, appended.root):
            raise StaleHistory
        records.store_digests(connection, read, appended.index)
        records.store_rejections(connection, read, judgement, appended.index, now_ms)
        allowed = window_devices(submission.batch, sender.gateway_id, sender.owner_id, keys)
        records.store_summaries(connection, submission.batch.summarised, allowed, appended.index)
        records.store_batch(connection, submission, judgement, allowed, entry, answer, appended.index, now_ms)
        records.store_executed(connection, _executed(histories, judgement.histories), now_ms)
        _pay(connection, submission, priced, appended.index, now_ms)
        for evidence in judgement.evidence:
            freeze_device(connection, keys, evidence, appended.index, now_ms)
        return Settled(settlement, answer, appended)


def _seen_before(connection: Connection, judgement: Judgement) -> set[ReportName]:
    """Of the evidence in a judgement, the names that were refused as such before: their devices went on
    since."""
    names = {(item.device_id, item.boot, item.seq) for item in judgement.evidence}
    rows = select_by_keys(connection, _EVIDENCE, names) if names else ()
    return {(row[0], row[1], row[2]) for row in rows if row[3] in (EQUIVOCATION, FORKED_HISTORY)}


def _load_stored(
    connection: Connection, names: set[ReportName], histories: Mapping[str, DeviceHistory]
) -> dict[ReportName, StoredReport]:
    """Those of ``names`` that are accepted. Raises StaleHistory for one that has to be and isn't there."""
    found = places.find(connection, names)
    for device_id, boot, seq in names - found.keys():
        if histories[device_id].must_have(boot, seq):
            raise StaleHistory
    digests = places.digests_of(connection, found.values())
    return {
        name: StoredReport(digests[place.log_index, place.position], place.log_index, place.position)
        for name, place in found.items()
    }


def _price(
    connection: Connection,
    tariff: Tariff,
    histories: Mapping[str, DeviceHistory],
    judgement: Judgement,
    keys: Mapping[str, DeviceKey],
    operator_id: str,
) -> Priced:
    """Price the accepted reports by owner, and note each device's own part in its history."""
    work = count_work(tariff, histories, judgement.histories, keys)
    if not work:
        return Priced((), {})
    owners = [*{keys[device_id].owner_id: None for device_id in judgement.histories}, operator_id]
    named = {(owner_account(owner),) for owner in owners}
    carries = {row[0]: row[1] for row in select_by_keys(connection, _CARRIES, named)}
    open_owner_accounts(connection, [owner for owner in owners if owner_account(owner) not in carries])
    return price_batch(tariff, work, owner_account(operator_id), carries)


def _pay(connection: Connection, submission: Submission, priced: Priced, log_index: int, now_ms: int) -> None:
    set_carries(connection, priced.carries)
    if priced.credits:
        transfer = Transfer(BATCH, submission.hash, priced.credits, now_ms, log_index)
        if not post(connection, transfer):
            raise InvariantViolated(f"the transfer of a new batch was posted before: {transfer.id.hex()}")


def _executed(
    before: Mapping[str, DeviceHistory], after: Mapping[str, DeviceHistory]
) -> list[tuple[str, int]]:
    executed = []
    for device_id, history in after.items():
        known = before[device_id].command_counter if device_id in before else None
        if history.command_counter is not None and history.command_counter != known:
            executed.append((device_id, history.command_counter))
    return executed
