"""Gateways: what a gateway asks about itself and its devices, and what owners see and revoke.

Place in the flow: a gateway polls `self/devices` to keep its broker's users right, and `self/commands` to
have something to publish; `self` gives it its place in the chain after a restart.
"""

from typing import Annotated

from fastapi import Query
from pydantic import Field

from surge_backend.api import problems
from surge_backend.api.fields import (
    PAGE_DEFAULT,
    Base64Url32,
    DeviceId,
    GatewayId,
    GatewayPath,
    Hex32,
    Model,
    Number,
    OwnerId,
    PageLimit,
    TimeMs,
    encode_base64url,
)
from surge_backend.api.guard import CurrentPrincipal, bearer
from surge_backend.api.routes import Routes
from surge_backend.api.scopes import owner_scope
from surge_backend.api.services import ServicesDep
from surge_backend.registry.command_rows import commands_after
from surge_backend.registry.device_rows import DEVICE_CHANGES_MAX, device_changes
from surge_backend.registry.gateway_rows import get_gateway, list_gateways, revoke_gateway
from surge_backend.registry.tokens import Role
from surge_wire.limits import UINT53_MAX

routes = Routes("gateways")

_GATEWAY = bearer(Role.GATEWAY)
_READERS = bearer(Role.ADMIN, Role.OWNER, Role.AUDITOR)
Cursor = Annotated[Number, Query(ge=0, le=UINT53_MAX)]


class Gateway(Model):
    """A gateway as its owner sees it."""

    gateway_id: GatewayId
    owner_id: OwnerId
    name: str
    public_key: Base64Url32
    status: str
    next_batch_seq: int
    created_ms: TimeMs


class GatewaySelf(Model):
    """Where a gateway's chain stands: what the next batch has to carry."""

    gateway_id: GatewayId
    next_batch_seq: int
    previous: Annotated[
        Hex32, Field(description="SHA-256 of the last batch's payload, zeros before the first")
    ]
    log_public_key: Base64Url32
    server_time_ms: TimeMs


class DeviceChange(Model):
    """One device as a broker needs it. `retired` ones are to be removed; `frozen` ones stay connected."""

    device_id: DeviceId
    status: str
    mqtt_bcrypt: str
    mqtt_pbkdf2_sha512: str
    revision: int


class DeviceChanges(Model):
    """What changed, in order. Ask next with `revision`; at once if there is `more`."""

    revision: int
    more: bool
    devices: list[DeviceChange]


class WaitingCommand(Model):
    """A command to publish to a device. `envelope` is the COSE_Mac0, base64url."""

    id: int
    device_id: DeviceId
    envelope: str


class WaitingCommands(Model):
    """Commands in order of `id`: ask next with the last one's."""

    commands: list[WaitingCommand]


@routes.get("/v1/gateways/self", access=_GATEWAY, summary="Where this gateway's chain stands")
def get_self(principal: CurrentPrincipal, services: ServicesDep) -> GatewaySelf:
    """What to go on with after a restart."""
    with services.database.read() as connection:
        gateway = get_gateway(connection, principal.subject_id)
    return GatewaySelf(
        gateway_id=gateway["id"],
        next_batch_seq=gateway["next_seq"],
        previous=gateway["chain_hash"].hex(),
        log_public_key=encode_base64url(services.log.public_key),
        server_time_ms=services.now_ms(),
    )


@routes.get("/v1/gateways/self/devices", access=_GATEWAY, summary="What changed among this gateway's devices")
def get_self_devices(
    principal: CurrentPrincipal,
    services: ServicesDep,
    after_revision: Cursor = 0,
    limit: Annotated[Number, Query(ge=1, le=DEVICE_CHANGES_MAX)] = DEVICE_CHANGES_MAX,
) -> DeviceChanges:
    """From revision 0 on: every device; later only what is newer."""
    with services.database.read() as connection:
        changes, more = device_changes(connection, principal.subject_id, after_revision, limit)
    return DeviceChanges(
        revision=changes[-1].revision if changes else after_revision,
        more=more,
        devices=[
            DeviceChange(
                device_id=change.device_id,
                status=change.status,
                mqtt_bcrypt=change.mqtt_bcrypt,
                mqtt_pbkdf2_sha512=change.mqtt_pbkdf2_sha512,
                revision=change.revision,
            )
            for change in changes
        ],
    )


@routes.get(
    "/v1/gateways/self/commands", access=_GATEWAY, summary="Commands that wait for this gateway's devices"
)
def get_self_commands(
    principal: CurrentPrincipal, services: ServicesDep, after_id: Cursor = 0
) -> WaitingCommands:
    """Those neither executed nor expired, with an id past `after_id`."""
    with services.database.read() as connection:
        rows = commands_after(connection, principal.subject_id, after_id, services.now_ms())
    return WaitingCommands(
        commands=[
            WaitingCommand(
                id=row["id"], device_id=row["device_id"], envelope=encode_base64url(row["envelope"])
            )
            for row in rows
        ]
    )


@routes.get("/v1/gateways", access=_READERS, summary="List gateways")
def get_gateways(
    principal: CurrentPrincipal,
    services: ServicesDep,
    after_id: Annotated[str, Query(max_length=17)] = "",
    limit: PageLimit = PAGE_DEFAULT,
) -> list[Gateway]:
    """In the order of their ids; an owner sees its own."""
    with services.database.read() as connection:
        rows = list_gateways(connection, owner_scope(principal), after_id, limit)
    return [
        Gateway(
            gateway_id=row["id"],
            owner_id=row["owner_id"],
            name=row["name"],
            public_key=encode_base64url(row["public_key"]),
            status=row["status"],
            next_batch_seq=row["next_seq"],
            created_ms=row["created_ms"],
        )
        for row in rows
    ]


@routes.post(
    "/v1/gateways/{gateway_id}/revoke",
    access=bearer(Role.ADMIN, Role.OWNER),
    status_code=204,
    problems=(problems.NOT_FOUND,),
    summary="Revoke a gateway",
)
def post_revoke(gateway_id: GatewayPath, principal: CurrentPrincipal, services: ServicesDep) -> None:
    """Its batches are refused and its tokens end, at once and for good. What it forwarded before stays."""
    with services.database.write() as connection:
        revoke_gateway(connection, gateway_id, owner_scope(principal), services.now_ms())
