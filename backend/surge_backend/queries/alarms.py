"""Alarms, as an administrator and an auditor see them.

Place in the flow: `db.alarms` raises them. This only lists.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from surge_backend.db.schema import alarms


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a person has to look at; ``subject`` is a device's or gateway's id."""

    id: int
    time_ms: int
    kind: str
    subject: str
    detail: str


def list_alarms(connection: Connection, limit: int, before: int | None = None) -> list[Alarm]:
    """Alarms about anything, the newest ``limit`` of those whose id is below ``before``, newest first."""
    query = select(alarms.c.id, alarms.c.time_ms, alarms.c.kind, alarms.c.subject, alarms.c.detail)
    if before is not None:
        query = query.where(alarms.c.id < before)
    return [Alarm(*row) for row in connection.execute(query.order_by(alarms.c.id.desc()).limit(limit))]
