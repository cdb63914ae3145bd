"""Alarms: what a person has to look at, kept until they do.

Place in the flow: ``ingest`` raises them; the API lists them.

Rule it keeps: one subject can't flood the table. After ALARMS_PER_SUBJECT_MAX of a kind, further ones are
dropped; the last that was stored says so.
"""

from typing import Final

from sqlalchemy import Connection, func, insert, select

from surge_backend.db.schema import alarms

ALARMS_PER_SUBJECT_MAX: Final = 100

BATCH_CONFLICT: Final = "batch_conflict"
CHAIN_BROKEN: Final = "chain_broken"
DEVICE_FROZEN: Final = "device_frozen"


def raise_alarm(connection: Connection, kind: str, subject: str, detail: str, time_ms: int) -> bool:
    """Store an alarm about ``subject`` (an id); False if it has too many of that kind already."""
    before = connection.execute(
        select(func.count()).select_from(alarms).where(alarms.c.subject == subject, alarms.c.kind == kind)
    ).scalar_one()
    if before >= ALARMS_PER_SUBJECT_MAX:
        return False
    if before == ALARMS_PER_SUBJECT_MAX - 1:
        detail += f" (more alarms of this kind about {subject} are not stored)"
    connection.execute(insert(alarms).values(time_ms=time_ms, kind=kind, subject=subject, detail=detail))
    return True
