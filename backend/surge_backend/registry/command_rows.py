"""Commands: what the backend tells a device, sealed under the device's own key, waiting for its gateway to
fetch.

Place in the flow: an owner or admin queues, the gateway fetches and publishes, the device says in its next
report which counter it executed last. Every function runs in the caller's transaction. Does not deliver.

Rules kept: counters rise by one per device and are never used again; a command ends at its `expires_ms`; a
device has at most COMMANDS_WAITING_MAX waiting, more are refused.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, func, or_, select

from surge_backend.db.schema import RETIRED, commands, device_totals, devices
from surge_backend.keys import SecretVault
from surge_backend.registry.device_rows import get_device, served_by
from surge_backend.registry.errors import LimitReached, WrongState
from surge_wire.command import Command, seal_command
from surge_wire.hkdf import INFO_COMMAND, derive_key

COMMANDS_WAITING_MAX = 16  # of one device, neither executed nor expired
COMMANDS_FETCHED_MAX = 500  # of one answer to a gateway
COMMANDS_LISTED_MAX = 100
COMMAND_LIFE_S_DEFAULT = 3_600
COMMAND_LIFE_S_MAX = 7 * 86_400


@dataclass(frozen=True)
class QueuedCommand:
    """A sealed command with its place in the queue (`id`) and on the device (`counter`)."""

    id: int
    counter: int
    expires_ms: int


def _waiting(now_ms: int) -> Any:
    """Commands that a device may still have to execute."""
    executed = func.coalesce(device_totals.c.command_counter, 0)
    return (
        select(commands.c.id, commands.c.device_id, commands.c.envelope)
        .join(devices, devices.c.id == commands.c.device_id)
        .outerjoin(device_totals, device_totals.c.device_id == commands.c.device_id)
        .where(
            commands.c.expires_ms > now_ms,
            commands.c.executed_ms.is_(None),
            or_(device_totals.c.command_counter.is_(None), commands.c.counter > executed),
        )
    )


def queue_command(
    connection: Connection,
    vault: SecretVault,
    device_id: str,
    owner_id: str | None,
    *,
    operation: int,
    arguments: dict[int, Any] | None,
    now_ms: int,
    life_s: int,
) -> QueuedCommand:
    """Seal a command for a device. Raises UnknownSubject, WrongState, LimitReached, EncodeError."""
    device = get_device(connection, device_id, owner_id)
    if device["status"] == RETIRED:
        raise WrongState(f"device {device_id} is retired: it gets no commands")
    waiting = _waiting(now_ms).where(commands.c.device_id == device_id).limit(COMMANDS_WAITING_MAX)
    if len(connection.execute(waiting).all()) >= COMMANDS_WAITING_MAX:
        raise LimitReached(f"{COMMANDS_WAITING_MAX} commands wait for this device: let them run or expire")
    newest = connection.execute(
        select(func.max(commands.c.counter)).where(commands.c.device_id == device_id)
    ).scalar_one()
    counter = (newest or 0) + 1
    expires_ms = now_ms + life_s * 1000
    sealed = connection.execute(select(devices.c.secret_sealed).where(devices.c.id == device_id)).scalar_one()
    command_key = derive_key(vault.open(device_id, sealed), INFO_COMMAND)
    envelope = seal_command(device_id, command_key, Command(counter, operation, arguments, expires_ms))
    inserted = connection.execute(
        commands.insert().values(
            device_id=device_id,
            counter=counter,
            operation=operation,
            envelope=envelope,
            created_ms=now_ms,
            expires_ms=expires_ms,
        )
    )
    key = inserted.inserted_primary_key
    if key is None:
        raise RuntimeError("the database gave no id")
    return QueuedCommand(key[0], counter, expires_ms)


def commands_after(connection: Connection, gateway_id: str, after_id: int, now_ms: int) -> list[RowMapping]:
    """What waits for a gateway's devices after an id, in order, at most COMMANDS_FETCHED_MAX."""
    query = (
        _waiting(now_ms)
        .where(served_by(gateway_id), devices.c.status != RETIRED, commands.c.id > after_id)
        .order_by(commands.c.id)
        .limit(COMMANDS_FETCHED_MAX)
    )
    return list(connection.execute(query).mappings())


def list_commands(connection: Connection, device_id: str, owner_id: str | None) -> list[RowMapping]:
    """A device's newest commands, with what it says it executed; at most COMMANDS_LISTED_MAX."""
    get_device(connection, device_id, owner_id)
    query = (
        select(
            commands.c.id,
            commands.c.counter,
            commands.c.operation,
            commands.c.created_ms,
            commands.c.expires_ms,
            commands.c.executed_ms,
        )
        .where(commands.c.device_id == device_id)
        .order_by(commands.c.id.desc())
        .limit(COMMANDS_LISTED_MAX)
    )
    return list(connection.execute(query).mappings())
