"""The bounds of verification, in one place, with what happens at each.

Every one of them rejects a report with its reason and changes nothing else, so that no jump locks a device
out (threat 6).
"""

from dataclasses import dataclass
from typing import Final

DAY_MS: Final = 86_400_000

# A boot further ahead of the newest one than this is GAP_TOO_LARGE: a damaged counter, not 65,536 restarts.
BOOT_GAP_MAX: Final = 65_536
# A seq further ahead within its boot is GAP_TOO_LARGE: at a report a second, eleven days of nothing but
# losses.
SEQ_GAP_MAX: Final = 1_000_000
# A boot further behind the newest one is BOOT_ROLLBACK: no outbox keeps reports over so many restarts.
BOOT_WINDOW: Final = 64
# A report of an older boot is TOO_LATE once the next boot has been known for longer than this, on the
# backend's clock.
LATE_MS_MAX: Final = 30 * DAY_MS
# A seq further behind the newest of its boot is TOO_LATE.
REORDER_WINDOW: Final = 100_000
# Gaps that are kept open in a boot, in 8 bytes each. Past it the oldest is given up, and what arrives for it
# is TOO_LATE: with every second report held up, that is more than two hours at one report a second.
GAPS_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class VerifyLimits:
    """The bounds as settings; the defaults are the constants above."""

    boot_gap_max: int = BOOT_GAP_MAX
    seq_gap_max: int = SEQ_GAP_MAX
    boot_window: int = BOOT_WINDOW
    late_ms_max: int = LATE_MS_MAX
    reorder_window: int = REORDER_WINDOW
    gaps_max: int = GAPS_MAX

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; it has to be an integer of at least 1")


DEFAULT_LIMITS: Final = VerifyLimits()
