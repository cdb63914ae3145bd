"""A reading that waits in the outbox: when it was taken and its SenML records, not yet sealed into a report.

Between the sampler, which makes it, and the sealer, which gives it a (boot, seq). The same labels as a
report's payload, so nothing is named twice. Does no I/O. The bytes never leave the device. Rule: a reading
that was encoded can be sealed, whatever the sealer adds to it; ``fitting`` makes one of a pack that is none.
"""

from surge_wire import cbor, report
from surge_wire.errors import DecodeError, EncodeError
from surge_wire.limits import RECORDS_MAX, REPORT_PAYLOAD_LEN_MAX

# What sealing adds at most: seq 6, the time if it is learnt only then 10, usage 62, the end of the boot
# before 6, the command counter 6, and 4 where the uptime has grown.
SEALING_LEN_MAX = 94
READING_LEN_MAX = REPORT_PAYLOAD_LEN_MAX - SEALING_LEN_MAX
_HEADS_LEN_MAX = 1 + 6 + 10 + 10 + 3  # of the map, boot, uptime, time and the pack's own head


def encode_reading(boot, uptime_ms, time_ms, pack):
    """``pack`` is a list of SenML record maps, empty where no sensor answered; ``time_ms`` None without a
    clock. Raises EncodeError for what would make no report."""
    fields = {report.BOOT: boot, report.UPTIME_MS: uptime_ms, report.PACK: pack}
    if time_ms is not None:
        fields[report.TIME_MS] = time_ms
    if len(pack) > RECORDS_MAX:
        raise EncodeError("too many records", str(len(pack)))
    body = cbor.encode(fields)
    if len(body) > READING_LEN_MAX:
        raise EncodeError("reading too long", str(len(body)))
    return body


def decode_reading(body):
    """(boot, uptime_ms, time_ms or None, pack). Raises DecodeError for bytes that are no reading."""
    fields = cbor.decode(body)
    if type(fields) is not dict:
        raise DecodeError("not a reading")
    boot, uptime_ms, pack = [fields.get(label) for label in (report.BOOT, report.UPTIME_MS, report.PACK)]
    if type(boot) is not int or type(uptime_ms) is not int or type(pack) is not list:
        raise DecodeError("not a reading")
    return boot, uptime_ms, fields.get(report.TIME_MS), pack


def fitting(pack):
    """The records of ``pack`` that can be encoded, in their order, as far as one report has room.

    Costs an encoding of each, so it is asked only after an EncodeError.
    """
    room = READING_LEN_MAX - _HEADS_LEN_MAX
    kept = []
    for record in pack:
        try:
            length = len(cbor.encode(record))
        except EncodeError:  # no finite number, or an integer of more than 64 bits
            continue
        if length <= room and len(kept) < RECORDS_MAX:
            room -= length
            kept.append(record)
    return kept


def reading_time_ms(boot_now, clock, boot, uptime_ms, time_ms):
    """When the reading was taken, as well as it is known now: a clock that was set since then tells it
    afterwards.

    None for a reading of an earlier boot that had no clock: nobody knows.
    """
    if time_ms is not None:
        return time_ms
    now_ms = clock.now_ms()
    if now_ms is None or boot != boot_now:
        return None
    return now_ms - (clock.uptime_ms() - uptime_ms)
