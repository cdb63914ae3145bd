"""What goes wrong, decided beforehand from one seed.

Place in the flow: ``member`` and ``adversaries`` ask before each thing that they do. Pure: every answer is a
function of the seed, the device's index and what is asked about, never of time or of what was asked before;
so one seed is one plan, however the run's real timing differs. Rule kept: a share above zero is at least
one device.
"""

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final

from surge_cli.simulate.clocks import SKEWED, Skew
from surge_host.errors import UserError

DEVICES_MAX: Final = 100_000  # as many as one broker takes
SEED_MAX: Final = (1 << 63) - 1
REORDER_MS_MAX: Final = 2_000  # how long a publish is held back so that others overtake it
ACKS_BEFORE_DEED: Final = 2  # a hostile device begins as an ordinary one
ACKS_UNTIL_DEED: Final = 4

_MASK = (1 << 64) - 1


class Role(IntEnum):
    """What a device does beside its work."""

    HONEST = 0
    EQUIVOCATED = 1  # a second holder of its key says something else under the same name
    FORKED = 2  # a second holder of its storage starts it a second time
    REPLAYER = 3  # sends old bytes again: its own, and others'
    FLOODER = 4  # sends far more than it may, most of it rubbish


CLONED: Final = (Role.EQUIVOCATED, Role.FORKED)


class _Draw(IntEnum):
    LOSS = 1
    ACK_LOSS = 2
    DUPLICATE = 3
    REORDER = 4
    DELAY = 5
    REBOOT = 6
    ACKS_SURVIVE = 7
    GAP = 8
    ROLE = 9
    SKEW = 10
    SKEW_KIND = 11
    PHASE = 12
    DEED = 13
    ELSEWHERE = 14


def draw(seed: int, index: int, kind: int, first: int = 0, second: int = 0) -> float:
    """A number from [0, 1) that depends on nothing but the arguments (SplitMix64's finaliser over them)."""
    value = seed
    for part in (index, kind, first, second):
        value = (value ^ (part & _MASK)) * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15 & _MASK
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
        value ^= value >> 31
    return (value >> 11) / (1 << 53)


@dataclass(frozen=True)
class Wrongs:
    """How much goes wrong, each from 0 to 1. Of publishes, acks and readings: the chance of each; of
    devices: the share."""

    loss: float = 0.0  # of report publishes and of acks: never arrive
    duplicate: float = 0.0  # of report publishes: arrive twice
    reorder: float = 0.0  # of report publishes: are overtaken
    reboots: float = 0.0  # of readings: the power is cut right after
    gaps: float = 0.0  # of sealed reports: flash loses them before they are sent
    skew: float = 0.0  # of devices: a wrong clock, or none
    clones: float = 0.0  # of devices: a second holder of the key
    replays: float = 0.0  # of devices: replays
    floods: float = 0.0  # of devices: floods

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not 0 <= value <= 1:
                raise UserError("not a share", f"--{one.name} {value}", "choose 0 to 1")
        if self.clones + self.replays + self.floods > 1:
            raise UserError(
                "more hostile devices than devices",
                "--clones, --replays, --floods",
                "choose shares that sum to 1 at most",
            )


HONEST: Final = Wrongs()
HOSTILE: Final = Wrongs(
    loss=0.05,
    duplicate=0.05,
    reorder=0.05,
    reboots=0.02,
    gaps=0.01,
    skew=0.2,
    clones=0.04,
    replays=0.06,
    floods=0.02,
)
PRESETS: Final = {"honest": HONEST, "hostile": HOSTILE}


class Plan:
    """The plan of ``devices`` devices under ``seed``."""

    def __init__(self, seed: int, devices: int, wrongs: Wrongs = HONEST) -> None:
        if not 0 <= seed <= SEED_MAX:
            raise UserError("not a seed", f"--seed {seed}", f"choose 0 to {SEED_MAX}")
        if not 1 <= devices <= DEVICES_MAX:
            raise UserError(
                "too many or too few devices", f"--devices {devices}", f"choose 1 to {DEVICES_MAX}"
            )
        self.seed = seed
        self.devices = devices
        self.wrongs = wrongs
        self._roles = bytearray(devices)
        self._skews = bytearray(devices)
        self._give_roles()

    def _give_roles(self) -> None:
        wrongs, count = self.wrongs, self.devices
        order = sorted(range(count), key=lambda index: draw(self.seed, index, _Draw.ROLE))
        at = 0
        for share, kinds in (
            (wrongs.clones, CLONED),
            (wrongs.replays, (Role.REPLAYER,)),
            (wrongs.floods, (Role.FLOODER,)),
        ):
            taken = order[at : at + _how_many(share, count)]
            at += len(taken)
            for place, index in enumerate(taken):
                self._roles[index] = kinds[place % len(kinds)]
        order.sort(key=lambda index: draw(self.seed, index, _Draw.SKEW))
        for place, index in enumerate(order[: _how_many(wrongs.skew, count)]):
            self._skews[index] = SKEWED[place % len(SKEWED)]

    # --- devices ---------------------------------------------------------------------------------------

    def role(self, index: int) -> Role:
        """What a device is."""
        return Role(self._roles[index])

    def skew(self, index: int) -> Skew:
        """Which clock a device has."""
        return Skew(self._skews[index])

    def phase(self, index: int) -> float:
        """Where in its first interval a device takes its first reading."""
        return draw(self.seed, index, _Draw.PHASE)

    def deed_after_acks(self, index: int) -> int:
        """After how many acknowledged reports a hostile device begins, and then again each so many."""
        return ACKS_BEFORE_DEED + int(draw(self.seed, index, _Draw.DEED) * ACKS_UNTIL_DEED)

    def deed_elsewhere(self, index: int) -> bool:
        """Whether a second holder of a key goes to another gateway, where there is one."""
        return draw(self.seed, index, _Draw.ELSEWHERE) < 0.5

    # --- what happens to each message and reading -----------------------------------------------------------

    def loses(self, index: int, boot: int, seq: int, attempt: int) -> bool:
        """Whether this sending of a report never arrives."""
        return self._happens(self.wrongs.loss, index, _Draw.LOSS, boot << 32 | seq, attempt)

    def loses_ack(self, index: int, number: int) -> bool:
        """Whether the device never hears its ``number``-th ack."""
        return self._happens(self.wrongs.loss, index, _Draw.ACK_LOSS, number)

    def duplicates(self, index: int, boot: int, seq: int, attempt: int) -> bool:
        """Whether this sending arrives twice."""
        return self._happens(self.wrongs.duplicate, index, _Draw.DUPLICATE, boot << 32 | seq, attempt)

    def delay_ms(self, index: int, boot: int, seq: int, attempt: int) -> int:
        """How long this sending is held back; 0 for most."""
        name = boot << 32 | seq
        if not self._happens(self.wrongs.reorder, index, _Draw.REORDER, name, attempt):
            return 0
        return 1 + int(draw(self.seed, index, _Draw.DELAY, name, attempt) * (REORDER_MS_MAX - 1))

    def cuts_power(self, index: int, reading: int) -> bool:
        """Whether the power is cut right after a reading."""
        return self._happens(self.wrongs.reboots, index, _Draw.REBOOT, reading)

    def acks_survive(self, index: int, reading: int) -> bool:
        """Whether the acks since the last durable write survive that cut."""
        return draw(self.seed, index, _Draw.ACKS_SURVIVE, reading) < 0.5

    def damages(self, index: int, boot: int, seq: int) -> bool:
        """Whether flash loses this report before it is sent."""
        return self._happens(self.wrongs.gaps, index, _Draw.GAP, boot << 32 | seq)

    def _happens(self, chance: float, index: int, kind: int, first: int, second: int = 0) -> bool:
        return chance > 0 and draw(self.seed, index, kind, first, second) < chance


def _how_many(share: float, count: int) -> int:
    return 0 if share <= 0 else max(1, round(share * count))
