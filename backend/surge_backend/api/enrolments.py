"""Enrolment over HTTP: a token made by an owner, spent once by a device or a gateway.

Place in the flow: `POST /v1/enrolments` by the owner, then `POST /v1/devices` or `/v1/gateways` by the one
that enrols. The rules are in `registry.enrolments` (threat 2).
"""

from typing import Annotated, Literal

from fastapi import Response
from pydantic import Field

from surge_backend.api import problems
from surge_backend.api.fields import (
    Base64Url32,
    DeviceId,
    GatewayId,
    Model,
    Name,
    OwnerId,
    RequestModel,
    TimeMs,
    decode_base64url,
    encode_base64url,
)
from surge_backend.api.guard import ENROLMENT, CurrentEnrolment, CurrentPrincipal, bearer
from surge_backend.api.problems import Problem
from surge_backend.api.routes import Routes
from surge_backend.api.services import ServicesDep
from surge_backend.registry.enrolments import (
    ENROLMENT_LIFE_S_DEFAULT,
    ENROLMENT_LIFE_S_MAX,
    create_enrolment,
    enrol_device,
    enrol_gateway,
)
from surge_backend.registry.owners import require_owner
from surge_backend.registry.tokens import Role
from surge_wire import ed25519
from surge_wire.errors import EncodeError

routes = Routes("enrolment")


class NewEnrolment(RequestModel):
    """What shall enrol. `owner_id` is for admins; an owner enrols for itself."""

    kind: Literal["device", "gateway"]
    name: Name
    owner_id: OwnerId | None = None
    gateway_id: Annotated[
        GatewayId | None,
        Field(description="devices: the one gateway it may connect to; absent: any gateway of its owner"),
    ] = None
    expires_in_s: Annotated[int, Field(ge=1, le=ENROLMENT_LIFE_S_MAX)] = ENROLMENT_LIFE_S_DEFAULT


class CreatedEnrolment(Model):
    """An enrolment token, shown only here, good for one device or gateway."""

    enrolment_token: str
    expires_ms: TimeMs


class NewDevice(RequestModel):
    """A device that enrols: its secret is sent this once and kept sealed."""

    secret: Base64Url32
    board: Name
    name: Name | None = None


class EnrolledDevice(Model):
    """The device's id."""

    device_id: DeviceId


class NewGateway(RequestModel):
    """A gateway that enrols: the Ed25519 public key whose batches are its own."""

    public_key: Base64Url32
    name: Name | None = None


class EnrolledGateway(Model):
    """The gateway's id, its token (shown only here), and the key that receipts are verified with."""

    gateway_id: GatewayId
    token: str
    log_public_key: Base64Url32
    log_id: Annotated[str, Field(description="the receipts' kid, hexadecimal")]


@routes.post(
    "/v1/enrolments",
    access=bearer(Role.ADMIN, Role.OWNER),
    status_code=201,
    problems=(problems.NOT_FOUND, problems.LIMIT_REACHED),
    summary="Make an enrolment token",
)
def post_enrolment(
    body: NewEnrolment, principal: CurrentPrincipal, services: ServicesDep
) -> CreatedEnrolment:
    """Hand the token to the device or gateway; it can be spent once, until it expires."""
    if principal.role is Role.ADMIN:
        if body.owner_id is None:
            raise Problem(problems.INVALID, "owner_id: an admin says for which owner")
        owner_id = body.owner_id
    elif body.owner_id not in (None, principal.subject_id):
        raise Problem(problems.FORBIDDEN, "an owner enrols for itself")
    else:
        owner_id = principal.subject_id
    if body.kind == "gateway" and body.gateway_id is not None:
        raise Problem(problems.INVALID, "gateway_id: only a device is assigned to a gateway")
    now_ms = services.now_ms()
    with services.database.write() as connection:
        require_owner(connection, owner_id)
        enrolment = create_enrolment(
            connection,
            kind=body.kind,
            owner_id=owner_id,
            gateway_id=body.gateway_id,
            name=body.name,
            now_ms=now_ms,
            life_s=body.expires_in_s,
        )
    return CreatedEnrolment(enrolment_token=enrolment.token, expires_ms=enrolment.expires_ms)


@routes.post(
    "/v1/devices",
    access=ENROLMENT,
    status_code=201,
    problems=(problems.ENROLMENT_USED,),
    responses={200: {"model": EnrolledDevice, "description": "The same device asked again"}},
    summary="Enrol a device",
)
def post_device(
    body: NewDevice, enrolment: CurrentEnrolment, services: ServicesDep, response: Response
) -> EnrolledDevice:
    """With an enrolment token. The same secret again gives the same answer, another secret 409."""
    with services.database.write() as connection:
        device = enrol_device(
            connection,
            services.vault,
            enrolment,
            secret=decode_base64url(body.secret),
            board=body.board,
            name=body.name,
            now_ms=services.now_ms(),
        )
    response.status_code = 201 if device.created else 200
    return EnrolledDevice(device_id=device.device_id)


@routes.post(
    "/v1/gateways",
    access=ENROLMENT,
    status_code=201,
    problems=(problems.ENROLMENT_USED,),
    responses={200: {"model": EnrolledGateway, "description": "The same gateway asked again: a fresh token"}},
    summary="Enrol a gateway",
)
def post_gateway(
    body: NewGateway, enrolment: CurrentEnrolment, services: ServicesDep, response: Response
) -> EnrolledGateway:
    """With an enrolment token. The same key again gets a fresh token, and the one before is revoked."""
    public_key = decode_base64url(body.public_key)
    try:
        ed25519.verifier(public_key)
    except EncodeError:
        raise Problem(problems.INVALID, "public_key: not an Ed25519 public key") from None
    with services.database.write() as connection:
        gateway = enrol_gateway(
            connection, enrolment, public_key=public_key, name=body.name, now_ms=services.now_ms()
        )
    response.status_code = 201 if gateway.created else 200
    return EnrolledGateway(
        gateway_id=gateway.gateway_id,
        token=gateway.token.token,
        log_public_key=encode_base64url(services.log.public_key),
        log_id=services.log.kid.hex(),
    )
