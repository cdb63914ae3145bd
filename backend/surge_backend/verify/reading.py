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

from surge_backend.verify.pack import count_samples
from surge_wire.cose import mac_valid
from surge_wire.errors import DecodeError
from surge_wire.report import Report, decode_report, open_report
from surge_wire.verdicts import ACCEPTED, BAD_MAC, MALFORMED, UNKNOWN_DEVICE

DIGEST_LEN: Final = (
    16  # 128 bits tell copies from equivocation; making two reports of one digest takes the key and 2^64 work
)
DETAIL_LEN_MAX: Final = 200  # characters of a reason; a hostile value is cut


@dataclass(slots=True)
class ReadReport:
    """A report as it stands in the batch at ``position``. With a ``fault``, only the fields it left are set.

    Not frozen: 10,000 of them are made for a batch, and a frozen one costs three times as much.
    """

    position: int
    fault: int  # a verdict code; ACCEPTED while nothing is wrong
    detail: str
    device_id: str | None = None
    report: Report | None = None
    samples: int = 0
    digest: bytes = b""
    length: int = 0  # bytes of the envelope


def read_reports(envelopes: Sequence[bytes], report_keys: Mapping[str, bytes]) -> list[ReadReport]:
    """Read every envelope; ``report_keys`` holds the key of every device that is enrolled and named in the
    batch."""
    return [_read(position, envelope, report_keys) for position, envelope in enumerate(envelopes)]


def named_devices(envelopes: Sequence[bytes]) -> set[str]:
    """The devices that the envelopes claim to be from; those that aren't envelopes are passed over."""
    found = set()
    for envelope in envelopes:
        try:
            found.add(open_report(envelope)[0])
        except DecodeError:
            continue
    return found


def _read(position: int, envelope: bytes, report_keys: Mapping[str, bytes]) -> ReadReport:
    device_id = None
    try:
        device_id, opened = open_report(envelope)
        report = decode_report(opened.payload)
        samples = count_samples(report.pack) if report.pack is not None else 0
    except DecodeError as error:
        return ReadReport(position, MALFORMED, str(error)[:DETAIL_LEN_MAX], device_id)
    key = report_keys.get(device_id)
    if key is None:
        return ReadReport(position, UNKNOWN_DEVICE, "no device of that id is enrolled", device_id, report)
    if not mac_valid(opened, key):
        return ReadReport(
            position,
            BAD_MAC,
            "the MAC is not by that device's key: altered on the way, or made by another",
            device_id,
            report,
        )
    digest = sha256(envelope).digest()[:DIGEST_LEN]
    return ReadReport(position, ACCEPTED, "", device_id, report, samples, digest, len(envelope))
