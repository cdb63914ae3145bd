"""The devices table: look up, list, retire, unfreeze, and what a gateway must know of them.

Place in the flow: enrolment adds rows, ingest freezes, the API and gateways read. Every function runs in the
caller's transaction. Does not open sealed secrets and never returns them.

Rules kept: every change of a row takes the next revision, so a gateway that asks for what came after the
revision it knows misses nothing; a device that is frozen keeps its MQTT access (its reports are still
evidence), one that is retired loses it; an owner sees its own devices only, others' are as if they weren't
there.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, func, or_, select, update

from surge_backend.db.schema import ACTIVE, FROZEN, RETIRED, device_totals, devices, gateways
from surge_backend.ledger.holds import release_device
from surge_backend.registry.errors import UnknownSubject, WrongState
from surge_backend.registry.events import DEVICE_RETIRED, DEVICE_UNFROZEN, HOLDS_RELEASED, record_event

DEVICES_LISTED_MAX = 1_000
DEVICE_CHANGES_MAX = 1_000  # of one answer to a gateway; `more` says that it shall ask again

_SHOWN = (
    devices.c.id,
    devices.c.owner_id,
    devices.c.name,
    devices.c.board,
    devices.c.gateway_id,
    devices.c.status,
    devices.c.status_reason,
    devices.c.status_evidence,
    devices.c.revision,
    devices.c.created_ms,
    device_totals.c.reports,
    device_totals.c.samples,
    device_totals.c.bytes,
    device_totals.c.microcredits,
    device_totals.c.last_report_ms,
    device_totals.c.command_counter,
)


@dataclass(frozen=True)
class DeviceChange:
    """What a gateway's broker needs of one device."""

    device_id: str
    status: str
    mqtt_bcrypt: str
    mqtt_pbkdf2_sha512: str
    revision: int


def next_revision(connection: Connection) -> int:
    """The revision that the next change of a device takes; unique, so two can't take the same."""
    newest = connection.execute(select(func.max(devices.c.revision))).scalar_one()
    return (newest or 0) + 1


def _owned(owner_id: str | None) -> ColumnElement[bool]:
    return devices.c.id.is_not(None) if owner_id is None else devices.c.owner_id == owner_id


def get_device(connection: Connection, device_id: str, owner_id: str | None = None) -> RowMapping:
    """One device with its totals (null before the first report).

    Raises UnknownSubject, also if another owner's.
    """
    row = (
        connection.execute(
            select(*_SHOWN)
            .outerjoin(device_totals, device_totals.c.device_id == devices.c.id)
            .where(devices.c.id == device_id, _owned(owner_id))
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise UnknownSubject(f"no device {device_id}")
    return row


def list_devices(
    connection: Connection, owner_id: str | None, status: str | None, after_id: str, limit: int
) -> list[RowMapping]:
    """Devices with their totals in the order of their ids, those after `after_id`; of all owners if None."""
    query = (
        select(*_SHOWN)
        .outerjoin(device_totals, device_totals.c.device_id == devices.c.id)
        .where(_owned(owner_id), devices.c.id > after_id)
    )
    if status is not None:
        query = query.where(devices.c.status == status)
    return list(connection.execute(query.order_by(devices.c.id).limit(limit)).mappings())


def _change_status(connection: Connection, device_id: str, **values: object) -> None:
    connection.execute(
        update(devices).where(devices.c.id == device_id).values(revision=next_revision(connection), **values)
    )


def retire_device(
    connection: Connection, device_id: str, owner_id: str | None, reason: str, now_ms: int
) -> None:
    """Retire a device for good: its reports are refused, its MQTT access ends. Again: no change."""
    device = get_device(connection, device_id, owner_id)
    if device["status"] != RETIRED:
        _change_status(connection, device_id, status=RETIRED, status_reason=reason)
        record_event(connection, DEVICE_RETIRED, device_id, now_ms)


def unfreeze_device(connection: Connection, device_id: str, reason: str, now_ms: int) -> int:
    """Let a frozen device go on, and release what was held of it: so many micro-credits. Raises WrongState.

    One that its owner retired meanwhile stays retired; what was held of it is released all the same. The
    evidence stays in the row, and the equivocation or fork stays among the rejections.
    """
    device = get_device(connection, device_id)
    if device["status"] == FROZEN:
        _change_status(connection, device_id, status=ACTIVE, status_reason=reason)
    released = release_device(connection, device_id, now_ms)
    if device["status"] != FROZEN and not released:
        raise WrongState(f"device {device_id} is {device['status']}, not frozen, and nothing is held of it")
    kind = DEVICE_UNFROZEN if device["status"] == FROZEN else HOLDS_RELEASED
    record_event(connection, kind, device_id, now_ms)
    return released


def served_by(gateway_id: str) -> ColumnElement[bool]:
    """The devices that may connect at a gateway: those assigned to it, and those of its owner that are not
    assigned.
    """
    its_owner = select(gateways.c.owner_id).where(gateways.c.id == gateway_id).scalar_subquery()
    return or_(
        devices.c.gateway_id == gateway_id,
        and_(devices.c.gateway_id.is_(None), devices.c.owner_id == its_owner),
    )


def device_changes(
    connection: Connection, gateway_id: str, after_revision: int, limit: int = DEVICE_CHANGES_MAX
) -> tuple[list[DeviceChange], bool]:
    """What changed among a gateway's devices after a revision, in order, and whether there is more."""
    rows = connection.execute(
        select(
            devices.c.id,
            devices.c.status,
            devices.c.mqtt_bcrypt,
            devices.c.mqtt_pbkdf2_sha512,
            devices.c.revision,
        )
        .where(served_by(gateway_id), devices.c.revision > after_revision)
        .order_by(devices.c.revision)
        .limit(limit + 1)
    ).all()
    return [DeviceChange(*row) for row in rows[:limit]], len(rows) > limit
