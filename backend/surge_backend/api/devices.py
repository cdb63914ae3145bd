"""Devices: what is known of each, and what its owner may do with it.

Place in the flow: read by owners, auditors and admins; commands go from here to the gateway that asks for
them. What the device sent is in `api.device_reports`.
"""

import json
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field, JsonValue, StringConstraints

from surge_backend.api import problems
from surge_backend.api.fields import (
    PAGE_DEFAULT,
    DeviceId,
    DevicePath,
    GatewayId,
    Model,
    OwnerId,
    PageLimit,
    Reason,
    RequestModel,
    TimeMs,
)
from surge_backend.api.guard import CurrentPrincipal, bearer
from surge_backend.api.problems import Problem
from surge_backend.api.routes import Routes
from surge_backend.api.scopes import owner_scope
from surge_backend.api.services import ServicesDep
from surge_backend.registry.command_rows import (
    COMMAND_LIFE_S_DEFAULT,
    COMMAND_LIFE_S_MAX,
    list_commands,
    queue_command,
)
from surge_backend.registry.device_rows import get_device, list_devices, retire_device, unfreeze_device
from surge_backend.registry.tokens import Role
from surge_wire.command import RESTART, SAMPLE_NOW, SET_REPORT_INTERVAL
from surge_wire.errors import EncodeError
from surge_wire.limits import UINT32_MAX

routes = Routes("devices")

_READERS = bearer(Role.ADMIN, Role.OWNER, Role.AUDITOR)
_OWNERS = bearer(Role.ADMIN, Role.OWNER)

REPORT_INTERVAL_S_MAX = 86_400
_INTERVAL_LABEL = 1  # the one argument of set_report_interval (spec/command.md)
_OPERATIONS = {"set_report_interval": SET_REPORT_INTERVAL, "restart": RESTART, "sample_now": SAMPLE_NOW}
_OPERATION_NAMES = {code: name for name, code in _OPERATIONS.items()}


class DeviceTotals(Model):
    """What was accepted of the device, and what its owner was credited for it."""

    reports: int
    samples: int
    bytes: int
    microcredits: int
    last_report_ms: TimeMs | None


class Device(Model):
    """A device. `status_reason` and `status_evidence` say why it is frozen or retired."""

    device_id: DeviceId
    owner_id: OwnerId
    name: str
    board: str
    gateway_id: GatewayId | None
    status: Literal["active", "frozen", "retired"]
    status_reason: str | None
    status_evidence: JsonValue
    created_ms: TimeMs
    totals: DeviceTotals


class Because(RequestModel):
    """The reason for a decision: kept with the device."""

    reason: Reason


class Unfrozen(Model):
    """What was held and is free again."""

    released_microcredits: int


class NewCommand(RequestModel):
    """An operation for a device. `set_report_interval` takes `{"seconds": n}`, the others nothing."""

    operation: Literal["set_report_interval", "restart", "sample_now"]
    arguments: Annotated[
        dict[Annotated[str, StringConstraints(max_length=32)], Annotated[int, Field(ge=0, le=UINT32_MAX)]],
        Field(default_factory=dict, max_length=4),
    ]
    expires_in_s: Annotated[int, Field(ge=1, le=COMMAND_LIFE_S_MAX)] = COMMAND_LIFE_S_DEFAULT


class QueuedCommand(Model):
    """The command's place: it is executed when the device reports a `counter` at or past this one."""

    id: int
    counter: int
    expires_ms: TimeMs


class Command(Model):
    """A command of the past or one that waits."""

    id: int
    counter: int
    operation: str
    created_ms: TimeMs
    expires_ms: TimeMs
    executed: bool


def _device(row: Any) -> Device:
    evidence = row["status_evidence"]
    return Device(
        device_id=row["id"],
        owner_id=row["owner_id"],
        name=row["name"],
        board=row["board"],
        gateway_id=row["gateway_id"],
        status=row["status"],
        status_reason=row["status_reason"],
        status_evidence=None if evidence is None else json.loads(evidence),
        created_ms=row["created_ms"],
        totals=DeviceTotals(
            reports=row["reports"] or 0,
            samples=row["samples"] or 0,
            bytes=row["bytes"] or 0,
            microcredits=row["microcredits"] or 0,
            last_report_ms=row["last_report_ms"],
        ),
    )


@routes.get("/v1/devices", access=_READERS, summary="List devices")
def get_devices(
    principal: CurrentPrincipal,
    services: ServicesDep,
    status: Annotated[Literal["active", "frozen", "retired"] | None, Query()] = None,
    after_id: Annotated[str, Query(max_length=17)] = "",
    limit: PageLimit = PAGE_DEFAULT,
) -> list[Device]:
    """In the order of their ids; an owner sees its own."""
    with services.database.read() as connection:
        rows = list_devices(connection, owner_scope(principal), status, after_id, limit)
    return [_device(row) for row in rows]


@routes.get("/v1/devices/{device_id}", access=_READERS, problems=(problems.NOT_FOUND,), summary="One device")
def get_one_device(device_id: DevicePath, principal: CurrentPrincipal, services: ServicesDep) -> Device:
    """With its totals, and why it is frozen if it is."""
    with services.database.read() as connection:
        return _device(get_device(connection, device_id, owner_scope(principal)))


@routes.post(
    "/v1/devices/{device_id}/retire",
    access=_OWNERS,
    status_code=204,
    problems=(problems.NOT_FOUND,),
    summary="Retire a device for good",
)
def post_retire(
    device_id: DevicePath, body: Because, principal: CurrentPrincipal, services: ServicesDep
) -> None:
    """Its reports are refused and its MQTT access ends. Again: no change."""
    with services.database.write() as connection:
        retire_device(connection, device_id, owner_scope(principal), body.reason, services.now_ms())


@routes.post(
    "/v1/devices/{device_id}/unfreeze",
    access=bearer(Role.ADMIN),
    problems=(problems.NOT_FOUND, problems.CONFLICT),
    summary="Let a frozen device go on",
)
def post_unfreeze(device_id: DevicePath, body: Because, services: ServicesDep) -> Unfrozen:
    """Releases what was held of it. The evidence stays."""
    with services.database.write() as connection:
        released = unfreeze_device(connection, device_id, body.reason, services.now_ms())
    return Unfrozen(released_microcredits=released)


def _arguments(body: NewCommand) -> dict[int, int] | None:
    """The operation's arguments as they go on the wire, or Problem."""
    if body.operation == "set_report_interval":
        seconds = body.arguments.get("seconds", 0)
        if set(body.arguments) != {"seconds"} or not 1 <= seconds <= REPORT_INTERVAL_S_MAX:
            raise Problem(
                problems.INVALID,
                f"arguments: set_report_interval takes seconds, 1 to {REPORT_INTERVAL_S_MAX}",
            )
        return {_INTERVAL_LABEL: seconds}
    if body.arguments:
        raise Problem(problems.INVALID, f"arguments: {body.operation} takes none")
    return None


@routes.post(
    "/v1/devices/{device_id}/commands",
    access=_OWNERS,
    status_code=201,
    problems=(problems.NOT_FOUND, problems.CONFLICT, problems.LIMIT_REACHED),
    summary="Send a device a command",
)
def post_command(
    device_id: DevicePath, body: NewCommand, principal: CurrentPrincipal, services: ServicesDep
) -> QueuedCommand:
    """Sealed under the device's own key: a gateway can drop it, but neither invent nor repeat one."""
    arguments = _arguments(body)
    try:
        with services.database.write() as connection:
            queued = queue_command(
                connection,
                services.vault,
                device_id,
                owner_scope(principal),
                operation=_OPERATIONS[body.operation],
                arguments=arguments,
                now_ms=services.now_ms(),
                life_s=body.expires_in_s,
            )
    except EncodeError as error:
        raise Problem(problems.INVALID, str(error)) from None
    return QueuedCommand(id=queued.id, counter=queued.counter, expires_ms=queued.expires_ms)


@routes.get(
    "/v1/devices/{device_id}/commands",
    access=_READERS,
    problems=(problems.NOT_FOUND,),
    summary="A device's newest commands",
)
def get_commands(device_id: DevicePath, principal: CurrentPrincipal, services: ServicesDep) -> list[Command]:
    """Newest first, with what the device says it executed."""
    with services.database.read() as connection:
        device = get_device(connection, device_id, owner_scope(principal))
        rows = list_commands(connection, device_id, owner_scope(principal))
    executed_counter = device["command_counter"]
    return [
        Command(
            id=row["id"],
            counter=row["counter"],
            operation=_OPERATION_NAMES.get(row["operation"], str(row["operation"])),
            created_ms=row["created_ms"],
            expires_ms=row["expires_ms"],
            executed=row["executed_ms"] is not None
            or (executed_counter is not None and row["counter"] <= executed_counter),
        )
        for row in rows
    ]
