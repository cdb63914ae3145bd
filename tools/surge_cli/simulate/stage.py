"""What all members of a fleet share, and what their devices measure.

Place in the flow: ``fleet`` makes one `Stage`; members and adversaries read it, and change the counts in it.
"""

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from surge_cli.simulate.dialler import Address, Dialler
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.plan import Plan
from surge_cli.simulate.wheel import Wheel
from surge_wire.senml import make_record

STOLEN_MAX = 1_000  # reports that a thief may still replay; the oldest is forgotten


@dataclass(frozen=True, slots=True)
class Pace:
    """The pauses before a new attempt to connect; the firmware's by default."""

    base_ms: int = 1_000
    cap_ms: int = 60_000
    refused_cap_ms: int = 300_000


@dataclass(slots=True)
class Stage:
    """What all members share. ``quiet``: nothing goes wrong by plan any more, and no reading is taken."""

    wheel: Wheel
    dialler: Dialler
    plan: Plan
    journal: Journal
    addresses: tuple[Address, ...]
    interval_ms: float
    pace: Pace
    random: random.Random
    readings_left: int | None = None  # None: without end
    quiet: bool = False
    ended: bool = False
    online: int = 0
    exhausted: asyncio.Event = field(default_factory=asyncio.Event)  # no reading is left to take
    stolen: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=STOLEN_MAX))


def make_pack(index: int, number: int) -> list[dict[int, Any]]:
    """What a device measures: three plausible records that differ from reading to reading."""
    mixed = index * 7919 + number * 104_729
    return [
        make_record("cpu", "%", mixed % 1000 / 10),
        make_record("mem_free", "B", 60_000 + mixed % 50_000),
        make_record("temp", "Cel", 15 + mixed % 400 / 16),
    ]
