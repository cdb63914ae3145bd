"""What a gateway can check of a report without the device's key.

Place in the flow: pure; `ingress` calls it for every message. Does not check the MAC (only the backend can)
nor the SenML rules (the backend's verdict says it). Rules kept: the id in the envelope is the topic's
(threat 17); everything is bounded before it is decoded (threat 19); only `Refused` is raised, with a reason
of the fixed set.
"""

from surge_gateway import counters
from surge_wire.cose import TAG_MAC0, open_profile, payload_of
from surge_wire.errors import DecodeError
from surge_wire.report import Report, decode_report


class Refused(Exception):
    """The report is not taken; `reason` is one of `counters.REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_report(envelope: bytes, start: bytes, len_max: int) -> Report:
    """The decoded report, if it is one and names the device whose envelopes begin with ``start``
    (`surge_wire.cose.profile_start`). Raises Refused.
    """
    if len(envelope) > len_max:
        raise Refused(counters.TOO_LONG)
    try:
        if not envelope.startswith(start):
            open_profile(TAG_MAC0, envelope, len_max)
            raise Refused(counters.ID_MISMATCH)
        return decode_report(payload_of(TAG_MAC0, start, envelope, len_max))
    except DecodeError as error:
        raise Refused(counters.MALFORMED) from error
