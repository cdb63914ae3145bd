"""What simulated devices believe the time to be: nothing, the truth, or something quite else.

Place in the flow: ``device`` asks for every reading. Pure: the device's uptime comes in. Rule kept, as in the
firmware: an honest device has no time of day until its first ack brings one; a skewed one has a clock that
somebody set (a server that lies, a chip that starts at its epoch), which an ack doesn't move.
"""

from enum import IntEnum

from surge_wire.limits import UINT53_MAX

DAY_MS = 86_400_000
YEAR_2038_MS = (1 << 31) * 1000  # where 32-bit seconds end
DRIFT = 0.05  # a clock that gains three minutes an hour
AHEAD_OF_2038_MS = 500  # so that the overflow lies within the first second


class Skew(IntEnum):
    """Which clock a device has."""

    NONE = 0  # an honest one
    YEAR_1970 = 1
    YEAR_2038 = 2
    FAR_FUTURE = 3
    DRIFTING = 4
    NO_CLOCK = 5  # never learns the time


SKEWED = tuple(skew for skew in Skew if skew is not Skew.NONE)


def claimed_ms(skew: Skew, uptime_ms: int, learned_offset_ms: int | None) -> int | None:
    """The time of day as the device believes it; ``learned_offset_ms`` is an ack's time minus its uptime."""
    if skew is Skew.NONE:
        return None if learned_offset_ms is None else uptime_ms + learned_offset_ms
    if skew is Skew.YEAR_1970:
        return uptime_ms
    if skew is Skew.YEAR_2038:
        return YEAR_2038_MS - AHEAD_OF_2038_MS + uptime_ms
    if skew is Skew.FAR_FUTURE:
        return UINT53_MAX - DAY_MS + uptime_ms % DAY_MS
    if skew is Skew.DRIFTING:
        return None if learned_offset_ms is None else int(uptime_ms * (1 + DRIFT)) + learned_offset_ms
    return None
