"""What a report found on disk at the start says about its device: it is durable, so it is not taken twice.

Place in the flow: between `spool_recovery` and `dedupe`. Rule kept: a record that can't be read is left to
the backend's judgement; it is forwarded all the same.
"""

from surge_gateway.devices import Devices
from surge_gateway.spool_record import Record
from surge_wire.errors import DecodeError
from surge_wire.report import decode_report, open_report


def remember_record(devices: Devices, record: Record) -> None:
    """Note the record's seq as durable."""
    try:
        device_id, opened = open_report(record.report)
        report = decode_report(opened.payload)
    except DecodeError:
        return
    device = devices.remember(device_id)
    device.seqs.boot(report.boot).note_recovered(report.seq, hash(record.report))
