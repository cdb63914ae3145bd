"""What the log says of refused reports: what is new, once, and nothing where there is nothing."""

from structlog.testing import capture_logs

from surge_gateway import counters as reasons
from surge_gateway.clock import SystemClock
from surge_gateway.counters import Counters
from surge_gateway.refusals import Refusals


def test_only_what_is_new_is_said() -> None:
    counters = Counters()
    counters.refused[reasons.MALFORMED] = 5  # before it looked for the first time
    refusals = Refusals(counters, SystemClock())
    with capture_logs() as lines:
        refusals.say()
        counters.refused[reasons.OVER_QUOTA] += 19_787
        counters.refused[reasons.MALFORMED] += 1
        refusals.say()
        refusals.say()
    assert [(line["event"], line["log_level"]) for line in lines] == [("reports_refused", "warning")]
    assert {name: lines[0][name] for name in reasons.REASONS if name in lines[0]} == {
        reasons.MALFORMED: 1,
        reasons.OVER_QUOTA: 19_787,
    }
