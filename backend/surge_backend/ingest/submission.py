"""A batch before anything is decided: is it one, who signed it, is it the next of its chain?

Place in the flow: the first steps of `Ingest.submit`.

Does not: look at the reports inside, or write.

Rules it keeps: shape, then sender, then signature, then chain. The same bytes get the answer they got
before; other bytes under a seq that is settled are a conflict (threat 10).
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from sqlalchemy import Connection

from surge_backend.db.bulk import fetch_one
from surge_backend.db.schema import ACTIVE
from surge_backend.errors import (
    BadSignature,
    BatchConflict,
    ChainBroken,
    GatewayRevoked,
    MalformedBatch,
    OutOfOrder,
)
from surge_wire.batch import Batch, chain_hash, decode_batch, open_batch
from surge_wire.cose import Opened
from surge_wire.ed25519 import verifier
from surge_wire.errors import DecodeError

_SENDER: Final = "SELECT status, owner_id, public_key, next_seq, chain_hash FROM gateways WHERE id = {}"
_SETTLED: Final = "SELECT hash, settlement, answer, log_index FROM batches WHERE gateway_id = {} AND seq = {}"

_verifier = lru_cache(maxsize=1_024)(verifier)


@dataclass(frozen=True, slots=True)
class Submission:
    """A batch by its gateway: signature checked, contents decoded.

    ``hash`` is SHA-256 of the envelope and names the batch; ``payload_hash`` is what the gateway's next
    batch continues.
    """

    gateway_id: str
    hash: bytes
    payload_hash: bytes
    batch: Batch
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Sender:
    """The gateway as the transaction sees it."""

    gateway_id: str
    owner_id: str
    public_key: bytes
    next_seq: int
    chain_hash: bytes


def open_envelope(envelope: bytes, token_gateway_id: str) -> Opened:
    """The unverified envelope, if its sender is who the token is for. Raises MalformedBatch, BadSignature."""
    try:
        gateway_id, opened = open_batch(envelope)
    except DecodeError as error:
        raise MalformedBatch(error.reason, error.detail) from error
    if gateway_id != token_gateway_id:
        raise BadSignature(
            f"the token is for {token_gateway_id}, the batch names {gateway_id}; send each with its own token"
        )
    return opened


def load_sender(connection: Connection, gateway_id: str) -> Sender:
    """The gateway. Raises GatewayRevoked if it is not active, or not there."""
    row = fetch_one(connection, _SENDER, gateway_id)
    if row is None or row[0] != ACTIVE:
        raise GatewayRevoked(f"{gateway_id} is revoked or was never enrolled; enrol it anew")
    return Sender(gateway_id, *row[1:])


def check_signature(sender: Sender, opened: Opened) -> None:
    """Raises BadSignature."""
    if not _verifier(sender.public_key)(opened.signed, opened.proof):
        raise BadSignature(f"the batch is not signed by the key that {sender.gateway_id} enrolled with")


def open_payload(sender: Sender, opened: Opened, envelope: bytes) -> Submission:
    """Decode what the signature covers. Raises MalformedBatch."""
    try:
        batch = decode_batch(opened.payload)
    except DecodeError as error:
        raise MalformedBatch(error.reason, error.detail) from error
    return Submission(
        sender.gateway_id, sha256(envelope).digest(), chain_hash(opened.payload), batch, envelope
    )


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a batch got when it was settled."""

    settlement: bytes
    answer: bytes
    log_index: int


def settled_before(connection: Connection, sender: Sender, submission: Submission) -> StoredAnswer | None:
    """What the same batch got before, or None. Raises BatchConflict if another batch has its seq."""
    if submission.batch.seq >= sender.next_seq:
        return None
    row = fetch_one(connection, _SETTLED, submission.gateway_id, submission.batch.seq)
    if row is None or row[0] != submission.hash:
        raise BatchConflict(submission.gateway_id, submission.batch.seq)
    return StoredAnswer(*row[1:])


def check_chain(sender: Sender, submission: Submission) -> None:
    """Is a batch that wasn't settled before the next one? Raises OutOfOrder, ChainBroken."""
    seq = submission.batch.seq
    if seq > sender.next_seq:
        raise OutOfOrder(sender.gateway_id, seq, sender.next_seq)
    if submission.batch.previous != sender.chain_hash:
        raise ChainBroken(sender.gateway_id, seq, sender.chain_hash)
