"""Reading one report of a batch: is it well-formed, does the backend know the device, did the device make it?

Place in the flow: the first half of verification, on bytes and keys alone; ``judging`` is the second, on
histories.

Does not: look at history or status; a retired device's report reads as well as any.

Rules it keeps: malformed, then unknown device, then bad MAC; what needs no secret comes first, so an auditor
with the batch comes to the same verdict. Bytes that a gateway altered fail here: it has no device's key
(threat 8).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from surge_backend.verify.device import DeviceKey
from surge_backend.verify.pack import count_samples
from surge_wire.errors import DecodeError
from surge_wire.limits import ID_LEN
from surge_wire.report import Usage, decode_report, open_report
from surge_wire.verdicts import ACCEPTED, BAD_MAC, MALFORMED, UNKNOWN_DEVICE

DIGEST_LEN: Final = 16  # making two reports of one digest takes the device's key and 2^64 attempts
DETAIL_LEN_MAX: Final = 200  # characters of a reason; a hostile value is cut
KID_AT: Final = 8  # where the device's id stands in every envelope of our profile (surge_wire.cose)


@dataclass(slots=True)
class ReadReport:
    """A report as it stands in the batch at ``position``; ``fault`` is a verdict code, ACCEPTED if it reads
    well.

    ``device_id`` is None where not even that could be read; ``boot`` and ``seq`` are -1 where they couldn't.
    ``length`` is that of the envelope in bytes. Not frozen: thousands are made for a batch, and a frozen one
    costs three times as much.
    """

    position: int
    fault: int
    detail: str
    device_id: str | None
    boot: int = -1
    seq: int = -1
    samples: int = 0
    length: int = 0
    digest: bytes = b""
    previous_end: int | None = None
    command_counter: int | None = None
    usage: Usage | None = None


def claimed_kids(envelopes: Sequence[bytes]) -> set[bytes]:
    """What stands where the device's id would, in each of the envelopes."""
    return {envelope[KID_AT : KID_AT + ID_LEN] for envelope in envelopes}


def read_whole(position: int, envelope: bytes, devices: Mapping[bytes, DeviceKey]) -> ReadReport:
    """Read any envelope by the wire format's own decoders: the authority on what is wrong with it."""
    device_id = None
    try:
        device_id, opened = open_report(envelope)
        report = decode_report(opened.payload)
        samples = count_samples(report.pack) if report.pack is not None else 0
    except DecodeError as error:
        return ReadReport(position, MALFORMED, _words(error), device_id)
    fault, detail = ACCEPTED, ""
    key = devices.get(opened.kid)
    if key is None:
        fault, detail = UNKNOWN_DEVICE, "no device of that id is enrolled"
    elif not key.mac.valid(opened.signed, opened.proof):
        fault, detail = BAD_MAC, "the MAC is not by that device's key: altered on the way, or made by another"
    return ReadReport(
        position,
        fault,
        detail,
        device_id,
        report.boot,
        report.seq,
        samples,
        len(envelope),
        digest_of(envelope),
        report.previous_end,
        report.command_counter,
        report.usage,
    )


def _words(error: DecodeError) -> str:
    """The reason as text that every database and terminal takes: PostgreSQL has no NUL, and a batch that
    can't be stored would hold up its gateway for ever."""
    text = str(error)[:DETAIL_LEN_MAX]
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def digest_of(envelope: bytes) -> bytes:
    """What tells a copy from another report of the same name."""
    return sha256(envelope).digest()[:DIGEST_LEN]
