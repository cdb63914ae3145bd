"""Reading plain reports fast: the shape that boards send, checked in place, with no object made on the way.

Place in the flow: `read_reports` takes every report of a batch through here; whatever isn't plain, or isn't
right, goes through ``reading.read_whole``, which alone says what is wrong. So this may say yes only where
that would, and never has to say no. A differential test holds the two together.

Plain is: an envelope of the profile, from a device that is known, with a MAC that is right; integer labels
only; records of a name, a number, a registered unit or none, a time or none; counters in range.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from cbor2 import CBORDecodeError, loads

from surge_backend.verify.device import DeviceKey
from surge_backend.verify.pack import plain_samples
from surge_backend.verify.reading import DIGEST_LEN, KID_AT, ReadReport, read_whole
from surge_backend.verify.shapes import Shapes
from surge_wire.cbor_cpython import REFUSE_TAGS
from surge_wire.cose import TAG_MAC0, seal_mac0, to_be_signed
from surge_wire.errors import DecodeError
from surge_wire.limits import CBOR_DEPTH_MAX, ID_LEN, MAC_LEN, REPORT_LEN_MAX, UINT32_MAX, UINT53_MAX
from surge_wire.report import (
    BOOT,
    COMMAND_COUNTER,
    PACK,
    PREVIOUS_END,
    SEQ,
    TIME_MS,
    UPTIME_MS,
    USAGE,
    USAGE_BYTES,
    USAGE_DROPPED,
    USAGE_ENERGY_UJ,
    USAGE_FUEL,
    USAGE_REPORTS,
    USAGE_SAMPLES,
    Usage,
)
from surge_wire.verdicts import ACCEPTED

_PAYLOAD_AT: Final = KID_AT + ID_LEN + 1  # after the kid and the empty unprotected header
_PROOF_HEAD_LEN: Final = 2
_TAIL_LEN: Final = _PROOF_HEAD_LEN + MAC_LEN
_SAMPLE: Final = seal_mac0("d" * ID_LEN, bytes(32), b"", REPORT_LEN_MAX)
_PREFIX: Final = _SAMPLE[:KID_AT]
_EMPTY_HEADER: Final = _SAMPLE[_PAYLOAD_AT - 1]
_PROOF_HEAD: Final = _SAMPLE[-_TAIL_LEN:-MAC_LEN]
# What precedes protected header, empty aad and payload.
_CONTEXT: Final = to_be_signed(TAG_MAC0, b"", b"")[:-3]
_PAYLOAD_SHORT: Final = 0x58  # a byte string of 24 to 255 bytes: two bytes of head; three for more
_PAYLOAD_LONG: Final = 0x59

# The payload is decoded as the first of two items, the second being a byte string that its own bytes
# determine and can't hold. If that one comes back, the payload was exactly one item, with nothing after it.
_PAIR: Final = b"\x82"
_GUARD_HEAD: Final = bytes((0x40 | DIGEST_LEN,))

_shapes: Final = Shapes()  # whoever sent it, a shape is the same
_COUNTERS: Final = (USAGE_REPORTS, USAGE_SAMPLES, USAGE_BYTES, USAGE_DROPPED)
_MEASURED: Final = (USAGE_FUEL, USAGE_ENERGY_UJ)


def read_reports(envelopes: Sequence[bytes], devices: Mapping[bytes, DeviceKey]) -> list[ReadReport]:
    """Read every envelope; ``devices`` are those enrolled among `claimed_kids`, by kid."""
    _shapes.begin_batch()
    read = []
    for position, envelope in enumerate(envelopes):
        found = _read_plain(position, envelope, devices)
        read.append(read_whole(position, envelope, devices) if found is None else found)
    return read


def _read_plain(position: int, envelope: bytes, devices: Mapping[bytes, DeviceKey]) -> ReadReport | None:
    kid = envelope[KID_AT : KID_AT + ID_LEN]
    device = devices.get(kid)
    length = len(envelope)
    if device is None or length > REPORT_LEN_MAX or length < _PAYLOAD_AT + 2 + 24 + _TAIL_LEN:
        return None
    head = envelope[_PAYLOAD_AT]
    if head == _PAYLOAD_SHORT:
        start = _PAYLOAD_AT + 2
        declared = envelope[start - 1]
        shortest = 24
    elif head == _PAYLOAD_LONG:
        start = _PAYLOAD_AT + 3
        declared = envelope[start - 2] << 8 | envelope[start - 1]
        shortest = 256
    else:
        return None
    end = length - _TAIL_LEN
    if declared != end - start or declared < shortest:
        return None
    if (
        envelope[:KID_AT] != _PREFIX
        or envelope[_PAYLOAD_AT - 1] != _EMPTY_HEADER
        or envelope[end : end + _PROOF_HEAD_LEN] != _PROOF_HEAD
    ):
        return None
    signed = _CONTEXT + envelope[2 : _PAYLOAD_AT - 1] + b"\x40" + envelope[_PAYLOAD_AT:end]
    if not device.mac.valid(signed, envelope[end + _PROOF_HEAD_LEN :]):
        return None
    digest = sha256(envelope).digest()[:DIGEST_LEN]
    known = _shapes.read(kid, envelope, start, end)
    if known is not None:
        boot, seq, samples, usage = known
        return ReadReport(
            position, ACCEPTED, "", device.device_id, boot, seq, samples, length, digest, None, None, usage
        )
    try:
        fields, guard = loads(
            _PAIR + envelope[start:end] + _GUARD_HEAD + digest,
            max_depth=CBOR_DEPTH_MAX + 1,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            semantic_decoders=REFUSE_TAGS,
        )
        if guard != digest or type(fields) is not dict:
            return None
        read = _read_fields(position, device.device_id, fields, length, digest)
        if read is not None:
            _shapes.learn(kid, envelope[start:end])
        return read
    except (CBORDecodeError, DecodeError, TypeError, ValueError, OverflowError, MemoryError, RecursionError):
        return None  # read_whole finds the words


def _read_fields(
    position: int, device_id: str, fields: dict[Any, Any], length: int, digest: bytes
) -> ReadReport | None:
    taken = 3
    boot, seq, uptime_ms = fields.get(BOOT), fields.get(SEQ), fields.get(UPTIME_MS)
    if type(boot) is not int or type(seq) is not int or type(uptime_ms) is not int:
        return None
    if not (0 <= boot <= UINT32_MAX and 0 <= seq <= UINT32_MAX and 0 <= uptime_ms <= UINT53_MAX):
        return None
    if TIME_MS in fields:
        time_ms = fields[TIME_MS]
        if type(time_ms) is not int or not 0 <= time_ms <= UINT53_MAX:
            return None
        taken += 1
    samples = 0
    if PACK in fields:
        samples = plain_samples(fields[PACK])
        if not samples:
            return None
        taken += 1
    elif USAGE not in fields:
        return None
    read = ReadReport(position, ACCEPTED, "", device_id, boot, seq, samples, length, digest)
    if len(fields) != taken:  # the rarer ones
        if PREVIOUS_END in fields and seq:
            return None
        for label in (PREVIOUS_END, COMMAND_COUNTER):
            if label in fields:
                value = fields[label]
                if type(value) is not int or not 0 <= value <= UINT32_MAX:
                    return None
                taken += 1
        read.previous_end = fields.get(PREVIOUS_END)
        read.command_counter = fields.get(COMMAND_COUNTER)
        if USAGE in fields:
            read.usage = _plain_usage(fields[USAGE])
            if read.usage is None:
                return None
            taken += 1
    if len(fields) != taken:
        return None
    for label in fields:  # 1.0 and true find the entries of 1, and are no labels
        if type(label) is not int:
            return None
    return read


def _plain_usage(fields: Any) -> Usage | None:
    if type(fields) is not dict:
        return None
    taken = len(_COUNTERS)
    for label in _MEASURED:
        taken += label in fields
    if len(fields) != taken:
        return None
    for label, value in fields.items():
        if type(label) is not int or type(value) is not int or not 0 <= value <= UINT53_MAX:
            return None
    try:
        reports, samples, length, dropped = [fields[label] for label in _COUNTERS]
    except KeyError:
        return None
    return Usage(reports, samples, length, dropped, fields.get(USAGE_FUEL), fields.get(USAGE_ENERGY_UJ))
