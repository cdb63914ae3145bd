"""What is done to whom, in which order, from a seed.

Place in the flow: ``torment`` carries it out. Pure. Does not know processes or clocks: the seed fixes
victims, pauses and combinations; the moment that a process is in when it is hit is the machine's, and never
the same twice.

Rule kept: a round holds every kind of deed, and each role is killed once by itself in every round, so that a
short run has them all.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Deed(StrEnum):
    """KILL is SIGKILL and a new start; FREEZE is SIGSTOP and SIGCONT; the others are of the cable between
    gateway and backend."""

    KILL = "kill"
    FREEZE = "freeze"
    CUT = "cut"  # every connection is reset, new ones too
    SILENCE = "silence"  # half-open: what is sent arrives nowhere, and nobody says so
    LOSE_ANSWERS = "lose answers"  # requests arrive, answers don't


CABLE_DEEDS = (Deed.CUT, Deed.SILENCE, Deed.LOSE_ANSWERS)


@dataclass(frozen=True)
class Disturbance:
    """``victims`` are hit ``apart_s`` after one another, stay down for ``down_s``, and are killed again
    ``again_s`` after that. ``power_cut``: a board also loses what it had not synced. ``move``: a board comes
    back at another gateway."""

    number: int
    wait_s: float
    deed: Deed
    victims: tuple[str, ...]
    down_s: float
    apart_s: float = 0.0
    again_s: float | None = None
    power_cut: bool = False
    move: bool = False
    calm_before: bool = False  # everything has recovered first

    @property
    def kills(self) -> int:
        """How many processes it kills."""
        if self.deed is not Deed.KILL:
            return 0
        return len(self.victims) * (1 if self.again_s is None else 2)

    def __str__(self) -> str:
        parts = [f"{self.deed} {' and '.join(self.victims)}"]
        if self.apart_s:
            parts.append(f"{self.apart_s:.2f} s apart")
        parts.append(f"for {self.down_s:.2f} s")
        if self.again_s is not None:
            parts.append(f"again {self.again_s:.2f} s into its recovery")
        if self.power_cut:
            parts.append("its unsynced bytes lost")
        if self.move:
            parts.append("back at another gateway")
        return ", ".join(parts)


@dataclass(frozen=True)
class Pace:
    """``wait_s``: between two disturbances on average; ``down_s``: the longest that a victim stays down."""

    wait_s: float = 1.0
    down_s: float = 3.0
    freeze_s: float = 6.0
    again_s: float = 2.5

    @classmethod
    def scaled(cls, wait_s: float) -> "Pace":
        """All pauses shorter in proportion; only the one between disturbances is ever longer than usual."""
        usual = cls()
        share = min(1.0, wait_s / usual.wait_s)
        return cls(wait_s, usual.down_s * share, usual.freeze_s * share, usual.again_s * share)


def disturbances(seed: int, roles: Sequence[Sequence[str]], pace: Pace) -> Iterator[Disturbance]:
    """Without end. ``roles``: the victims of each role (all backends, all gateways...); a role named
    ``cable`` is cut and never killed."""
    rng = random.Random(seed)
    cables = [victim for victims in roles for victim in victims if victim.startswith("cable")]
    killable = [list(victims) for victims in roles if victims and not victims[0].startswith("cable")]
    number = 0
    while True:
        for index, (deed, victims, again) in enumerate(_round(rng, killable, cables)):
            number += 1
            boards = any(victim.startswith("board") for victim in victims)
            longest_s = pace.down_s if deed is Deed.KILL else pace.freeze_s
            yield Disturbance(
                number,
                wait_s=rng.expovariate(1 / pace.wait_s),
                deed=deed,
                victims=victims,
                down_s=rng.uniform(0, longest_s),
                apart_s=rng.uniform(0, pace.again_s) if len(victims) > 1 else 0.0,
                again_s=rng.uniform(0, pace.again_s) if again else None,
                power_cut=boards and deed is Deed.KILL and rng.random() < 0.5,
                move=len(cables) > 1 and boards and deed is Deed.KILL and rng.random() < 0.5,
                calm_before=index == 0 and number > 1,
            )


def _round(
    rng: random.Random, killable: list[list[str]], cables: list[str]
) -> list[tuple[Deed, tuple[str, ...], bool]]:
    deeds: list[tuple[Deed, tuple[str, ...], bool]] = [
        (Deed.KILL, (rng.choice(victims),), False) for victims in killable
    ]
    first, second = rng.sample(killable, 2)
    deeds.append((Deed.KILL, (rng.choice(first), rng.choice(second)), False))
    deeds.append((Deed.KILL, (rng.choice(rng.choice(killable)),), True))
    deeds.append((Deed.FREEZE, (rng.choice(rng.choice(killable)),), False))
    deeds += [(rng.choice(CABLE_DEEDS), (cable,), False) for cable in cables[:1] and [rng.choice(cables)]]
    rng.shuffle(deeds)
    return deeds
