"""Sealed batches and the chain's state on disk.

Place in the flow: under `store`. One file per sealed batch, `batches/<seq>.batch`, and `chain.state` for
what the last verified receipt covered; both carry check sums and are replaced whole. Rule kept: what is
damaged is kept under a name that ends in `.damaged` and said, never interpreted and never deleted.
"""

from pathlib import Path

import structlog

from surge_gateway.chain import Confirmed, SealedBatch
from surge_gateway.checked_file import decode_checked, encode_checked
from surge_gateway.files import Files, remove_if_there, write_atomically
from surge_gateway.spool_record import Position
from surge_wire.batch import chain_hash, decode_batch, open_batch
from surge_wire.errors import DecodeError
from surge_wire.fields import octets, uint, uint_or_none
from surge_wire.limits import BATCH_LEN_MAX, HASH_LEN, UINT53_MAX

log = structlog.get_logger()

SUFFIX = ".batch"
DAMAGED_SUFFIX = ".damaged"
SUPERSEDED_SUFFIX = ".superseded"  # whole, but the backend's chain went another way after damage
STATE_NAME = "chain.state"

END_SEGMENT = 1
END_OFFSET = 2
TAKEN_COUNT = 3
ENVELOPE = 4

NEXT_SEQ = 1
PREVIOUS = 2
RELEASED_SEGMENT = 3
RELEASED_OFFSET = 4
UNCERTAIN = 5


def batch_path(folder: Path, seq: int) -> Path:
    """Where the sealed batch `seq` stands."""
    return folder / f"{seq:016d}{SUFFIX}"


def write_sealed(files: Files, folder: Path, batch: SealedBatch) -> None:
    """Durable when this returns. Raises OSError."""
    fields = {
        END_SEGMENT: batch.end.segment,
        END_OFFSET: batch.end.offset,
        TAKEN_COUNT: batch.taken_count,
        ENVELOPE: batch.envelope,
    }
    write_atomically(files, batch_path(folder, batch.seq), encode_checked(fields))


def decode_sealed(data: bytes) -> SealedBatch:
    """Raises DecodeError."""
    fields = decode_checked(data)
    envelope = fields.get(ENVELOPE)
    if type(envelope) is not bytes or len(envelope) > BATCH_LEN_MAX:
        raise DecodeError("field missing or of the wrong length")
    payload = open_batch(envelope)[1].payload
    batch = decode_batch(payload)
    return SealedBatch(
        batch.seq,
        batch.previous,
        chain_hash(payload),
        len(batch.reports),
        uint(fields, TAKEN_COUNT, UINT53_MAX),
        Position(uint(fields, END_SEGMENT, UINT53_MAX), uint(fields, END_OFFSET, UINT53_MAX)),
        envelope,
    )


def read_sealed(files: Files, folder: Path, confirmed: Confirmed) -> tuple[list[SealedBatch], list[Path]]:
    """The batches after `confirmed`, in order, and the files from the first damaged or missing one on.

    Raises OSError.
    """
    found: list[SealedBatch] = []
    rest: list[Path] = []
    for name in files.names(folder):
        path = folder / name
        stem = name.removesuffix(SUFFIX)
        if stem == name or not stem.isdecimal():
            continue
        if confirmed.next_seq is not None and int(stem) < confirmed.next_seq:
            remove_if_there(files, path)  # confirmed, and the stop came before it was deleted
            continue
        batch = None if rest else _decode_or_none(files.read(path))
        if batch is not None and batch.seq == int(stem) and _follows(batch, found, confirmed):
            found.append(batch)
        else:
            rest.append(path)
    return found, rest


def _follows(batch: SealedBatch, found: list[SealedBatch], confirmed: Confirmed) -> bool:
    if found:
        return batch.seq == found[-1].seq + 1 and batch.previous == found[-1].payload_hash
    if not confirmed.certain:
        return True
    return confirmed.next_seq in (None, batch.seq) and batch.previous == confirmed.previous


def set_aside(files: Files, path: Path, suffix: str) -> None:
    """Rename a file that can't be used, for a person to look at; where it is gone, that is done. Raises
    OSError."""
    log.error("file_set_aside", path=str(path), renamed_to=path.name + suffix)
    try:
        files.rename(path, path.with_name(path.name + suffix))
    except FileNotFoundError:
        log.error("file_missing", path=str(path))


def _decode_or_none(data: bytes) -> SealedBatch | None:
    try:
        return decode_sealed(data)
    except DecodeError:
        return None


def write_confirmed(files: Files, folder: Path, confirmed: Confirmed) -> None:
    """Durable when this returns. Raises OSError."""
    fields: dict[int, int | bytes] = {
        PREVIOUS: confirmed.previous,
        RELEASED_SEGMENT: confirmed.released.segment,
        RELEASED_OFFSET: confirmed.released.offset,
    }
    if not confirmed.certain:
        fields[UNCERTAIN] = 1
    if confirmed.next_seq is not None:
        fields[NEXT_SEQ] = confirmed.next_seq
    write_atomically(files, folder / STATE_NAME, encode_checked(fields))


def read_confirmed(files: Files, folder: Path) -> Confirmed:
    """What `write_confirmed` wrote last; nothing confirmed where there is no file; uncertain where it is
    damaged.

    Raises OSError.
    """
    path = folder / STATE_NAME
    try:
        data = files.read(path)
    except FileNotFoundError:
        return Confirmed()
    try:
        fields = decode_checked(data)
        return Confirmed(
            uint_or_none(fields, NEXT_SEQ, UINT53_MAX),
            octets(fields, PREVIOUS, HASH_LEN),
            Position(uint(fields, RELEASED_SEGMENT, UINT53_MAX), uint(fields, RELEASED_OFFSET, UINT53_MAX)),
            certain=UNCERTAIN not in fields,
        )
    except DecodeError as error:
        log.error(
            "chain_state_damaged", path=str(path), reason=error.reason, kept_as=path.name + DAMAGED_SUFFIX
        )
        write_atomically(files, path.with_name(path.name + DAMAGED_SUFFIX), data)
        return Confirmed(certain=False)
