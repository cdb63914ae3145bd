"""Freezing a device on evidence: its status, its owner's held payout, an alarm, in one transaction with the
batch.

Place in the flow: the last step of a settlement whose judgement holds evidence (threat 1).

Does not: take money back, or delete anything. An administrator decides, and unfreezing releases the holds.
"""

import json
from collections.abc import Mapping

from sqlalchemy import Connection, func, select, update

from surge_backend.db.alarms import DEVICE_FROZEN, raise_alarm
from surge_backend.db.schema import ACTIVE, FROZEN, devices
from surge_backend.ledger.holds import hold_device
from surge_backend.ledger.posting import open_owner_accounts
from surge_backend.ledger.pricing import owner_account
from surge_backend.registry import events
from surge_backend.verify.device import DeviceKey
from surge_backend.verify.evidence import Evidence


def freeze_device(
    connection: Connection, keys: Mapping[str, DeviceKey], evidence: Evidence, log_index: int, now_ms: int
) -> None:
    """Freeze the device of ``evidence``, found in the batch at ``log_index``."""
    device_id = evidence.device_id
    owner_id = keys[device_id].owner_id
    reason = evidence.reason()
    facts = evidence.facts() | {"log_index": log_index, "time_ms": now_ms}
    if evidence.other_digest is not None and evidence.other_log_index is None:
        facts["other_log_index"] = log_index  # both stand in this batch
    revision = connection.execute(select(func.coalesce(func.max(devices.c.revision), 0))).scalar_one()
    connection.execute(
        update(devices)
        .where(devices.c.id == device_id, devices.c.status == ACTIVE)
        .values(
            status=FROZEN,
            status_reason=reason,
            status_evidence=json.dumps(facts, sort_keys=True),
            revision=revision + 1,
        )
    )
    # The log has the batch already, so this counts for the entries after it.
    events.record_event(connection, events.DEVICE_FROZEN, device_id, now_ms, {events.LOG_INDEX: log_index})
    open_owner_accounts(connection, [owner_id])
    hold_device(connection, device_id, owner_account(owner_id), reason, now_ms)
    raise_alarm(connection, DEVICE_FROZEN, device_id, reason, now_ms)
