"""Real reports of real devices, made as a board makes them."""

import random
from dataclasses import dataclass, field

from surge_wire.ids import DEVICE, make_id
from surge_wire.report import Report, Usage, seal_report
from surge_wire.senml import make_record


@dataclass
class Device:
    """A device that seals reports; `seq` counts up."""

    device_id: str
    key: bytes
    boot: int = 1
    seq: int = 0
    made: list[bytes] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return f"surge/1/{self.device_id}/report"

    def report(self, value: float = 21.5, *, usage: bool = False, **more: object) -> bytes:
        """The next report: one temperature, or the usage counters."""
        report = Report(
            self.boot,
            self.seq,
            self.seq * 1000,
            pack=None if usage else [make_record("temperature", "Cel", value)],
            usage=Usage(self.seq, self.seq, 100 * self.seq, 0) if usage else None,
        )
        for name, given in more.items():
            setattr(report, name, given)
        self.seq += 1
        envelope = seal_report(self.device_id, self.key, report)
        self.made.append(envelope)
        return envelope


def make_device(seed: int = 1) -> Device:
    source = random.Random(seed)
    return Device(make_id(DEVICE, source.randbytes(10)), source.randbytes(32))
