"""Why a device is frozen: what was seen, in words for its owner and in facts for an auditor.

Place in the flow: made by ``judging``, stored by ``ingest`` with the device, its holds and an alarm (threat
1).

Does not: hold a secret, or judge who is right: two holders of one key look the same from here.
"""

from dataclasses import asdict, dataclass

from surge_wire.verdicts import NAMES


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two statements under one device key that one device would not both make.

    The report at ``position`` of the batch being settled, and for equivocation the accepted report of the
    same name (``other_log_index``, ``other_position``, ``other_digest``); for a fork, the end that was
    declared for ``ended_boot``.
    """

    code: int
    device_id: str
    boot: int
    seq: int
    position: int
    digest: bytes
    other_digest: bytes | None = None
    other_log_index: int | None = None
    other_position: int | None = None
    ended_boot: int | None = None
    declared_end: int | None = None
    seq_seen: int | None = None

    def reason(self) -> str:
        """For the owner: what was seen, what it means, what to do."""
        if self.other_digest is not None:
            seen = f"two different reports are numbered {self.seq} of boot {self.boot}"
        else:
            seen = (
                f"boot {self.ended_boot} was declared to end before report {self.declared_end},"
                f" and yet there is a report {self.seq_seen} of it"
            )
        return (
            f"{seen}, both under this device's key. Either its key was copied, or its storage was set back to"
            " an earlier state. Its reports are not accepted and its payouts are held until an administrator"
            " has looked; enrol the board anew with a fresh secret if it may have been copied."
        )

    def facts(self) -> dict[str, object]:
        """Everything seen, ready for JSON; digests in hex, the first 16 bytes of an envelope's SHA-256."""
        facts: dict[str, object] = {"kind": NAMES[self.code]}
        for name, value in asdict(self).items():
            if value is not None and name != "code":
                facts[name] = value.hex() if isinstance(value, bytes) else value
        return facts
