"""The two ways in which the wire format fails.

``DecodeError`` is the peer's fault: the bytes are not what the spec allows. Decoders raise nothing else,
whatever the bytes. ``EncodeError`` is ours: a caller asked for a message that the spec does not allow.
"""


class WireError(Exception):
    """Base of both; ``reason`` is a stable text that tests and counters may compare."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason + ": " + detail if detail else reason)
        self.reason = reason
        self.detail = detail


class DecodeError(WireError):
    """The bytes are not a valid message. ``offset`` is where reading stopped, -1 where that says nothing."""

    def __init__(self, reason: str, offset: int = -1, detail: str = "") -> None:
        if not detail and offset >= 0:
            detail = "at byte " + str(offset)
        super().__init__(reason, detail)
        self.offset = offset


class EncodeError(WireError):
    """The values do not make a valid message."""
