"""A reading that waits in the outbox: when it was taken and its SenML records, not yet sealed into a report.

Between the sampler, which makes it, and the sealer, which gives it a (boot, seq). The same labels as a
report's payload, so nothing is named twice. Does no I/O. The bytes never leave the device.
"""

from surge_wire import cbor, report


def encode_reading(boot, uptime_ms, time_ms, pack):
    """``pack`` is a list of SenML record maps, empty where no sensor answered; ``time_ms`` None without a
    clock."""
    fields = {report.BOOT: boot, report.UPTIME_MS: uptime_ms, report.PACK: pack}
    if time_ms is not None:
        fields[report.TIME_MS] = time_ms
    return cbor.encode(fields)


def decode_reading(body):
    """(boot, uptime_ms, time_ms or None, pack). Raises surge_wire's DecodeError if the bytes are not CBOR."""
    fields = cbor.decode(body)
    return (
        fields[report.BOOT],
        fields[report.UPTIME_MS],
        fields.get(report.TIME_MS),
        fields[report.PACK],
    )


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
