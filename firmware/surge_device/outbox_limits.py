"""How much the outbox may keep; the defaults suit a Pico W's file system of 848 KiB and a heap of 128 KiB.

At ``bytes_max`` and at ``entries_max`` pending telemetry is thinned, at ``in_flight_max`` nothing is sealed
until an ack comes.
"""

BYTES_MAX = 256 * 1024
SEGMENT_BYTES = 16 * 1024
ENTRIES_MAX = 256
IN_FLIGHT_MAX = 16
SEALED_MAX = 64  # the most that in_flight_max can be set to


class Limits:
    """``bytes_max`` on flash, ``segment_bytes`` per file, ``entries_max`` pending, ``in_flight_max`` sealed
    and unacked."""

    def __init__(
        self,
        bytes_max=BYTES_MAX,
        segment_bytes=SEGMENT_BYTES,
        entries_max=ENTRIES_MAX,
        in_flight_max=IN_FLIGHT_MAX,
    ):
        if not 1 <= in_flight_max <= SEALED_MAX:
            raise ValueError("in_flight_max is 1 to %d" % SEALED_MAX)
        self.bytes_max = bytes_max
        self.segment_bytes = segment_bytes
        self.entries_max = entries_max
        self.in_flight_max = in_flight_max
