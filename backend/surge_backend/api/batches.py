"""Batches over HTTP: a gateway submits the bytes that it signed, and gets the settlement with its receipt.

Place in the flow: `intake` and `ingest` decide; this reads the body within its bound and answers. An auditor
fetches a batch again by its hash, byte for byte.
"""

from typing import Annotated

from fastapi import Path, Request, Response
from sqlalchemy import select

from surge_backend.api import problems
from surge_backend.api.fields import binary_response
from surge_backend.api.guard import CurrentPrincipal, bearer
from surge_backend.api.log import CBOR, COSE
from surge_backend.api.problems import Problem
from surge_backend.api.routes import Routes
from surge_backend.api.services import ServicesDep
from surge_backend.db.schema import batches
from surge_backend.registry.tokens import Role
from surge_wire.limits import BATCH_LEN_MAX

PATH = "/v1/batches"

routes = Routes("batches")


@routes.post(
    PATH,
    access=bearer(Role.GATEWAY),
    status_code=201,
    response_class=Response,
    responses={
        201: binary_response("The settlement and its receipt (surge_wire.submission)", CBOR),
        200: binary_response("The same batch was settled before: the same answer, byte for byte", CBOR),
    },
    problems=(
        problems.GATEWAY_REVOKED,
        problems.SIGNATURE_INVALID,
        problems.BATCH_CONFLICT,
        problems.OUT_OF_ORDER,
        problems.CHAIN_BROKEN,
        problems.TOO_LARGE,
        problems.UNSUPPORTED_TYPE,
        problems.BATCH_MALFORMED,
        problems.STORE_BUSY,
        problems.STORE_LOST,
        problems.STORE_FULL,
        problems.LOG_STOPPED,
        problems.OVERLOADED,
    ),
    openapi_extra={
        "security": [{"bearer": []}],
        "requestBody": {
            "required": True,
            "content": {
                COSE: {"schema": {"type": "string", "format": "binary", "maxLength": BATCH_LEN_MAX}},
            },
        },
    },
    summary="Submit a batch",
)
async def post_batch(request: Request, principal: CurrentPrincipal, services: ServicesDep) -> Response:
    """The COSE_Sign1 as signed.

    Submitting it again is harmless; with other bytes under its seq it is refused.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != COSE:
        raise Problem(
            problems.UNSUPPORTED_TYPE, f"a batch is sent as {COSE}", remedy=f"set Content-Type: {COSE}"
        )
    answer = await services.intake.submit(principal.subject_id, request.body)
    return Response(answer.body, 201 if answer.settled_now else 200, media_type=CBOR)


@routes.get(
    PATH + "/{batch_hash}",
    access=bearer(Role.ADMIN, Role.AUDITOR, Role.GATEWAY),
    response_class=Response,
    responses={200: binary_response("The batch as its gateway signed it", COSE)},
    problems=(problems.NOT_FOUND,),
    summary="A batch's bytes",
)
def get_batch(
    batch_hash: Annotated[
        str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the envelope, as the settlement has it")
    ],
    principal: CurrentPrincipal,
    services: ServicesDep,
) -> Response:
    """For auditors, admins, and the gateway that sent it."""
    query = select(batches.c.envelope).where(batches.c.hash == bytes.fromhex(batch_hash))
    if principal.role is Role.GATEWAY:
        query = query.where(batches.c.gateway_id == principal.subject_id)
    with services.database.read() as connection:
        envelope = connection.execute(query).scalar_one_or_none()
    if envelope is None:
        raise Problem(problems.NOT_FOUND, f"no batch {batch_hash}")
    return Response(envelope, media_type=COSE)
