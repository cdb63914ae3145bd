"""Says in the log what was refused, so that an operator hears of a flood or a misfit without looking at
`/status`.

Place in the flow: reads the counters, changes nothing. Rule kept: one line a minute at most, however much
is refused.
"""

import structlog

from surge_gateway.clock import Clock
from surge_gateway.counters import Counters

log = structlog.get_logger()

SAY_EVERY_S = 60.0


class Refusals:
    """`run` until cancelled."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock
        self._said = dict(counters.refused)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(SAY_EVERY_S)
            self.say()

    def say(self) -> None:
        """One line about what was refused since the last one; none where nothing was."""
        refused = dict(self._counters.refused)
        new = {
            reason: count - self._said[reason]
            for reason, count in refused.items()
            if count > self._said[reason]
        }
        self._said = refused
        if new:
            log.warning(
                "reports_refused", **new, consequence="not acknowledged: honest devices keep and repeat them"
            )
