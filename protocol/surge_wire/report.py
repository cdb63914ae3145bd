"""Report: what a device says, under its own MAC (spec/report.md).

A COSE_Mac0 under the device's report key; kid is the device id. ``(device, boot, seq)`` names a report for
ever. ``seal_report`` runs on the board, ``open_report`` at the gateway (which can't check the MAC),
``open_report``, ``cose.mac_valid`` and ``decode_report`` at the backend.
"""

from .cbor import decode, encode
from .cose import TAG_MAC0, Opened, open_profile, seal_mac0
from .errors import DecodeError, EncodeError
from .fields import check_uint, map_of, uint, uint_or_none
from .ids import DEVICE, decode_id
from .limits import REPORT_LEN_MAX, UINT32_MAX, UINT53_MAX
from .senml import resolve_pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .senml import Record

BOOT = 1
SEQ = 2
UPTIME_MS = 3
TIME_MS = 4
PACK = 5
USAGE = 6
PREVIOUS_END = 7
COMMAND_COUNTER = 8
_LABELS = frozenset((BOOT, SEQ, UPTIME_MS, TIME_MS, PACK, USAGE, PREVIOUS_END, COMMAND_COUNTER))

USAGE_REPORTS = 1
USAGE_SAMPLES = 2
USAGE_BYTES = 3
USAGE_DROPPED = 4
USAGE_FUEL = 5
USAGE_ENERGY_UJ = 6
_USAGE_LABELS = frozenset(
    (USAGE_REPORTS, USAGE_SAMPLES, USAGE_BYTES, USAGE_DROPPED, USAGE_FUEL, USAGE_ENERGY_UJ)
)


class Usage:
    """A device's own running totals of this boot: claims for cross-checking, never what is paid.

    ``reports``, ``samples`` and ``bytes`` cover every report sealed in this boot before this one;
    ``dropped`` counts readings that the outbox thinned out. ``fuel`` and ``energy_uj`` (microjoules) are
    None where not measured.
    """

    __slots__ = ("bytes", "dropped", "energy_uj", "fuel", "reports", "samples")

    def __init__(
        self,
        reports: int,
        samples: int,
        bytes: int,
        dropped: int,
        fuel: "int | None" = None,
        energy_uj: "int | None" = None,
    ) -> None:
        self.reports = reports
        self.samples = samples
        self.bytes = bytes
        self.dropped = dropped
        self.fuel = fuel
        self.energy_uj = energy_uj


class Report:
    """A decoded report payload. Times in milliseconds; ``time_ms`` is the device's claim, None without a
    clock.

    ``previous_end`` stands in the first report of a boot: the seq that boot - 1 would have used next, from
    the device's own log. A later report of that boot at or past it proves a second holder of the key
    (threat 1).
    """

    __slots__ = (
        "boot",
        "command_counter",
        "pack",
        "previous_end",
        "seq",
        "time_ms",
        "uptime_ms",
        "usage",
    )

    def __init__(
        self,
        boot: int,
        seq: int,
        uptime_ms: int,
        time_ms: "int | None" = None,
        pack: "list[dict[int, Any]] | None" = None,
        usage: "Usage | None" = None,
        previous_end: "int | None" = None,
        command_counter: "int | None" = None,
    ) -> None:
        self.boot = boot
        self.seq = seq
        self.uptime_ms = uptime_ms
        self.time_ms = time_ms
        self.pack = pack
        self.usage = usage
        self.previous_end = previous_end
        self.command_counter = command_counter

    def records(self) -> "list[Record]":
        """The flat SenML records; names are relative to the device. Raises DecodeError."""
        return resolve_pack(self.pack) if self.pack is not None else []


def encode_report(report: Report) -> bytes:
    """The payload bytes of ``report``."""
    fields: "dict[int, Any]" = {
        BOOT: check_uint(report.boot, UINT32_MAX, "boot"),
        SEQ: check_uint(report.seq, UINT32_MAX, "seq"),
        UPTIME_MS: check_uint(report.uptime_ms, UINT53_MAX, "uptime_ms"),
    }
    if report.time_ms is not None:
        fields[TIME_MS] = check_uint(report.time_ms, UINT53_MAX, "time_ms")
    if report.pack is not None:
        fields[PACK] = report.pack
    if report.usage is not None:
        fields[USAGE] = _usage_fields(report.usage)
    if report.pack is None and report.usage is None:
        raise EncodeError("report without pack and usage")
    if report.previous_end is not None:
        if report.seq != 0:
            raise EncodeError("previous end outside a boot's first report")
        fields[PREVIOUS_END] = check_uint(report.previous_end, UINT32_MAX, "previous_end")
    if report.command_counter is not None:
        fields[COMMAND_COUNTER] = check_uint(report.command_counter, UINT32_MAX, "command_counter")
    return encode(fields)


def _usage_fields(usage: Usage) -> "dict[int, int]":
    fields = {
        USAGE_REPORTS: check_uint(usage.reports, UINT53_MAX, "reports"),
        USAGE_SAMPLES: check_uint(usage.samples, UINT53_MAX, "samples"),
        USAGE_BYTES: check_uint(usage.bytes, UINT53_MAX, "bytes"),
        USAGE_DROPPED: check_uint(usage.dropped, UINT53_MAX, "dropped"),
    }
    if usage.fuel is not None:
        fields[USAGE_FUEL] = check_uint(usage.fuel, UINT53_MAX, "fuel")
    if usage.energy_uj is not None:
        fields[USAGE_ENERGY_UJ] = check_uint(usage.energy_uj, UINT53_MAX, "energy_uj")
    return fields


def _decode_usage(value: "Any") -> Usage:
    fields = map_of(value, _USAGE_LABELS)
    return Usage(
        uint(fields, USAGE_REPORTS, UINT53_MAX),
        uint(fields, USAGE_SAMPLES, UINT53_MAX),
        uint(fields, USAGE_BYTES, UINT53_MAX),
        uint(fields, USAGE_DROPPED, UINT53_MAX),
        uint_or_none(fields, USAGE_FUEL, UINT53_MAX),
        uint_or_none(fields, USAGE_ENERGY_UJ, UINT53_MAX),
    )


def decode_report(payload: bytes) -> Report:
    """Read a report's payload; the pack's records are checked by ``Report.records``. Raises DecodeError."""
    fields = map_of(decode(payload), _LABELS)
    pack = fields.get(PACK)
    if PACK in fields and type(pack) is not list:
        raise DecodeError("SenML pack must be an array of 1 to 64 records")
    if PACK not in fields and USAGE not in fields:
        raise DecodeError("report without pack and usage")
    seq = uint(fields, SEQ, UINT32_MAX)
    if PREVIOUS_END in fields and seq != 0:
        raise DecodeError("previous end outside a boot's first report")
    return Report(
        uint(fields, BOOT, UINT32_MAX),
        seq,
        uint(fields, UPTIME_MS, UINT53_MAX),
        uint_or_none(fields, TIME_MS, UINT53_MAX),
        pack,
        _decode_usage(fields[USAGE]) if USAGE in fields else None,
        uint_or_none(fields, PREVIOUS_END, UINT32_MAX),
        uint_or_none(fields, COMMAND_COUNTER, UINT32_MAX),
    )


def seal_report(device_id: str, report_key: bytes, report: Report) -> bytes:
    """The envelope of ``report``, at most REPORT_LEN_MAX bytes."""
    return seal_mac0(device_id, report_key, encode_report(report), REPORT_LEN_MAX)


def open_report(envelope: bytes) -> "tuple[str, Opened]":
    """The device id and the opened, unverified envelope. Raises DecodeError."""
    opened = open_profile(TAG_MAC0, envelope, REPORT_LEN_MAX)
    return decode_id(DEVICE, opened.kid), opened
