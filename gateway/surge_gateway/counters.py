"""What the gateway counts since it started.

Place in the flow: plain integers that the hot path adds to; `metrics` and `status` read them. Rule kept: the
set of reasons is fixed, so nothing that a device sends makes a new label.
"""

from dataclasses import dataclass, field

RETAINED = "retained"  # a report is never retained: somebody planted it
TOPIC_INVALID = "topic_invalid"
UNKNOWN_DEVICE = "unknown_device"
TOO_LONG = "too_long"
MALFORMED = "malformed"
ID_MISMATCH = "id_mismatch"  # the topic's device is not the one in the envelope
OVER_QUOTA = "over_quota"
SPOOL_FULL = "spool_full"
SPOOL_BUSY = "spool_busy"  # the disk does not keep up, or fails
STOPPING = "stopping"

REASONS = (
    RETAINED,
    TOPIC_INVALID,
    UNKNOWN_DEVICE,
    TOO_LONG,
    MALFORMED,
    ID_MISMATCH,
    OVER_QUOTA,
    SPOOL_FULL,
    SPOOL_BUSY,
    STOPPING,
)


@dataclass(slots=True)
class Counters:
    """Counts since the start."""

    received: int = 0  # messages on report topics
    duplicates: int = 0
    conflicting: int = 0  # a known (device, boot, seq) with other bytes: forwarded as evidence
    stored: int = 0  # reports on disk
    acks: int = 0  # ack messages published
    batches_sealed: int = 0
    batches_sent: int = 0  # attempts
    batches_confirmed: int = 0
    reports_confirmed: int = 0  # reports that a verified receipt covers
    receipts_refused: int = 0  # answers that did not verify
    commands_published: int = 0
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
