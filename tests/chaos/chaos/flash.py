"""What a board has on flash, read while it is off; and what a power cut may take from it.

Place in the flow: ``load`` looks after each kill. Reads with the firmware's own outbox, on a copy.

Rule kept: a power cut takes only what the firmware never promised: acks are the one record that it doesn't
sync, so what a cut may take is any number of bytes of the acks at the end of the newest segment.
"""

import os
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from surge_cli.sources import firmware_folder

if str(firmware_folder()) not in sys.path:
    sys.path.insert(0, str(firmware_folder()))

from surge_device.outbox import open_outbox
from surge_device.outbox_record import ACK, HEADER_LEN, RecordBuffer


@dataclass
class Flash:
    """Of every boot that sealed anything, how many reports; which of them no ack covers, and readings that
    wait unsealed, when it was last looked at."""

    sealed: dict[int, int] = field(default_factory=dict)
    unacked: frozenset[tuple[int, int]] = frozenset()
    pending: int = 0
    damaged: int = 0
    looks: int = 0

    def look(self, board: Path) -> None:
        """Read the outbox of a board that is off."""
        with tempfile.TemporaryDirectory(prefix="surge-chaos-") as copy:
            shutil.copytree(board / "outbox", copy, dirs_exist_ok=True)
            outbox = open_outbox(copy)
            last = outbox.last_sealed
            if last is not None:
                self.sealed[last[0]] = max(self.sealed.get(last[0], 0), last[1] + 1)
            self.unacked = frozenset((boot, seq) for boot, seq, _ in outbox.unacked())
            for boot, seq in self.unacked:
                self.sealed[boot] = max(self.sealed.get(boot, 0), seq + 1)
            self.pending = outbox.pending
            self.damaged = outbox.damaged
            outbox.close()
        self.looks += 1

    def names(self) -> set[tuple[int, int]]:
        """Every (boot, seq) that was ever sealed."""
        return {(boot, seq) for boot, end in self.sealed.items() for seq in range(end)}


def cut_power(board: Path, rng: random.Random) -> int:
    """Take unsynced bytes from a board that is off; returns how many."""
    segments = sorted((board / "outbox").glob("*.seg"))
    if not segments:
        return 0
    ends: list[tuple[int, int]] = []
    with segments[-1].open("rb") as file:

        def visit(kind: int, _number: int, body: memoryview | None, offset: int) -> None:
            ends.append((kind, offset + HEADER_LEN + len(body or b"")))

        RecordBuffer().replay(file, visit)
        size = file.seek(0, 2)
    synced = max((end for kind, end in ends if kind != ACK), default=0)
    keep = rng.randint(synced, size) if synced < size else size
    os.truncate(segments[-1], keep)
    return size - keep
