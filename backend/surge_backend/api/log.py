"""The public log over HTTP: its key, signed heads, entries and proofs. No token is needed for any of it.

Place in the flow: auditors, gateways and anyone else read here; `log.MerkleLog` makes the proofs. What can be
shown in two ways is COSE or CBOR by default, since that is what is signed, and JSON for who asks for
`application/json`.
"""

from typing import Annotated

from fastapi import Path, Query, Request, Response
from pydantic import Field
from sqlalchemy import select

from surge_backend.api import problems
from surge_backend.api.fields import (
    Base64Url32,
    GatewayId,
    Hex32,
    Model,
    Number,
    TimeMs,
    binary_response,
    encode_base64url,
)
from surge_backend.api.guard import PUBLIC
from surge_backend.api.problems import Problem
from surge_backend.api.routes import Routes
from surge_backend.api.services import ServicesDep
from surge_backend.db.schema import batches, log_heads
from surge_wire.limits import TREE_SIZE_MAX
from surge_wire.settlement import decode_settlement
from surge_wire.verdicts import NAMES

routes = Routes("log")

COSE = "application/cose"
CBOR = "application/cbor"
JSON = "application/json"

TreeSize = Annotated[Number, Query(ge=0, le=TREE_SIZE_MAX)]
Index = Annotated[Number, Path(ge=0, lt=TREE_SIZE_MAX, description="the entry's place in the log, from 0")]


class LogKey(Model):
    """What every receipt and head is verified with."""

    log_public_key: Annotated[Base64Url32, Field(description="Ed25519, base64url")]
    log_id: Annotated[str, Field(description="the receipts' kid, hexadecimal")]


class LogHead(Model):
    """A signed tree head."""

    tree_size: int
    root: Hex32
    time_ms: TimeMs
    envelope: Annotated[str, Field(description="the COSE_Sign1 that says the same, base64url")]


class Rejection(Model):
    """A report that was not accepted, by its place in the batch."""

    position: int
    verdict: str


class Credit(Model):
    """A leg of the batch's transfer."""

    account: str
    microcredits: int


class LogEntry(Model):
    """A settlement: the backend's decision on one batch."""

    index: int
    batch_hash: Hex32
    gateway_id: GatewayId
    batch_seq: int
    received_ms: TimeMs
    tariff_version: int
    report_count: int
    accepted_count: int
    rejections: list[Rejection]
    credits: list[Credit]


def wants_json(request: Request) -> bool:
    """Whether the client asks for JSON, or is a browser."""
    accept = request.headers.get("accept", "")
    return JSON in accept or "text/html" in accept


@routes.get("/v1/log/key", access=PUBLIC, summary="The log's key")
def get_key(services: ServicesDep) -> LogKey:
    """Get it once, over a way that you trust, and keep it."""
    return LogKey(log_public_key=encode_base64url(services.log.public_key), log_id=services.log.kid.hex())


@routes.get(
    "/v1/log/head",
    access=PUBLIC,
    problems=(problems.NOT_FOUND,),
    response_model=LogHead,
    responses={200: binary_response("A signed tree head", COSE)},
    summary="The newest signed tree head, or an earlier one",
)
def get_head(
    request: Request,
    services: ServicesDep,
    tree_size: Annotated[TreeSize | None, Query(description="absent: the newest")] = None,
) -> Response:
    """COSE_Sign1, or JSON. Every head that was ever signed can be had, and none is signed twice."""
    query = select(log_heads).order_by(log_heads.c.tree_size.desc()).limit(1)
    if tree_size is not None:
        query = select(log_heads).where(log_heads.c.tree_size == tree_size)
    with services.database.read() as connection:
        head = connection.execute(query).one_or_none()
    if head is None:
        raise Problem(problems.NOT_FOUND, f"no head of {tree_size} entries")
    if not wants_json(request):
        return Response(head.envelope, media_type=COSE, headers={"Vary": "Accept"})
    model = LogHead(
        tree_size=head.tree_size,
        root=head.root.hex(),
        time_ms=head.time_ms,
        envelope=encode_base64url(head.envelope),
    )
    return Response(model.model_dump_json(), media_type=JSON, headers={"Vary": "Accept"})


@routes.get(
    "/v1/log/inclusion/{index}",
    access=PUBLIC,
    problems=(problems.NOT_FOUND, problems.LOG_STOPPED),
    response_class=Response,
    responses={200: binary_response("COSE Receipt of inclusion (RFC 9942 section 5.2)", COSE)},
    summary="Proof that an entry is in the log",
)
def get_inclusion(
    index: Index,
    services: ServicesDep,
    tree_size: Annotated[TreeSize | None, Query(description="absent: the newest")] = None,
) -> Response:
    """Verify it with the entry's bytes and the log's key; nothing else is needed."""
    with services.database.read() as connection:
        receipt = services.log.inclusion_receipt(connection, index, tree_size)
    return Response(receipt, media_type=COSE)


@routes.get(
    "/v1/log/consistency",
    access=PUBLIC,
    problems=(problems.NOT_FOUND, problems.LOG_STOPPED),
    response_class=Response,
    responses={200: binary_response("COSE Receipt of consistency (RFC 9942 section 5.3)", COSE)},
    summary="Proof that a later tree extends an earlier one",
)
def get_consistency(
    services: ServicesDep,
    from_size: Annotated[TreeSize, Query(alias="from", description="the earlier tree's size")],
    to_size: Annotated[TreeSize | None, Query(alias="to", description="absent: the newest")] = None,
) -> Response:
    """Verify it with the roots of both heads and the log's key."""
    with services.database.read() as connection:
        receipt = services.log.consistency_receipt(connection, from_size, to_size)
    return Response(receipt, media_type=COSE)


@routes.get(
    "/v1/log/entries/{index}",
    access=PUBLIC,
    problems=(problems.NOT_FOUND,),
    response_model=LogEntry,
    responses={200: binary_response("A settlement (spec/settlement.md)", CBOR)},
    summary="An entry: the decision on one batch",
)
def get_entry(index: Index, request: Request, services: ServicesDep) -> Response:
    """The exact bytes that the log holds, or the same as JSON."""
    with services.database.read() as connection:
        data = connection.execute(
            select(batches.c.settlement).where(batches.c.log_index == index)
        ).scalar_one_or_none()
    if data is None:
        raise Problem(problems.NOT_FOUND, f"the log has no entry {index}")
    if not wants_json(request):
        return Response(data, media_type=CBOR, headers={"Vary": "Accept"})
    settlement = decode_settlement(data)
    model = LogEntry(
        index=index,
        batch_hash=settlement.batch_hash.hex(),
        gateway_id=settlement.gateway_id,
        batch_seq=settlement.batch_seq,
        received_ms=settlement.received_ms,
        tariff_version=settlement.tariff_version,
        report_count=settlement.report_count,
        accepted_count=settlement.report_count - len(settlement.rejections),
        rejections=[Rejection(position=i, verdict=NAMES[code]) for i, code in settlement.rejections],
        credits=[Credit(account=account, microcredits=amount) for account, amount in settlement.credits],
    )
    return Response(model.model_dump_json(), media_type=JSON, headers={"Vary": "Accept"})
