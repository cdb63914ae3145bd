"""Verdict codes: what became of each report in a batch, and why (spec/settlement.md).

A code is never reused or renumbered once released. ACCEPTED alone is paid.
"""

ACCEPTED = 0
MALFORMED = 1  # the bytes are no report, or its pack breaks SenML's rules
UNKNOWN_DEVICE = 2  # nobody enrolled that id
BAD_MAC = 3  # not made with the device's key
DUPLICATE = 4  # the same report was accepted before, through this gateway or another
EQUIVOCATION = 5  # same (device, boot, seq), other bytes: two holders of one key
FORKED_HISTORY = 6  # past the end that the device itself declared for that boot
DEVICE_FROZEN = 7  # evidence of cloning stands, until an operator has looked into it
DEVICE_RETIRED = 8  # revoked by its owner
TOO_LATE = 9  # outside the window for late delivery
BOOT_ROLLBACK = 10  # a boot that should not exist: far behind the newest one
GAP_TOO_LARGE = 11  # seq or boot jumps further than the limit

NAMES = {
    ACCEPTED: "accepted",
    MALFORMED: "malformed",
    UNKNOWN_DEVICE: "unknown_device",
    BAD_MAC: "bad_mac",
    DUPLICATE: "duplicate",
    EQUIVOCATION: "equivocation",
    FORKED_HISTORY: "forked_history",
    DEVICE_FROZEN: "device_frozen",
    DEVICE_RETIRED: "device_retired",
    TOO_LATE: "too_late",
    BOOT_ROLLBACK: "boot_rollback",
    GAP_TOO_LARGE: "gap_too_large",
}
