"""Reads nats-server's log lines: their level, and what they say about its state.

Place in the flow: `embedded` feeds it each line that the server writes. Pure: no clock, no output. Rules
kept: a line is cut to a fixed length; what clients did wrong is a warning, not an error of the server; a
flood of lines (a hostile client causes one per message) is dropped and counted, not passed on.

The wording is that of the pinned version (2.15.1). Should another version word them differently, start or
reload runs into its time-out with the server's last lines in the error; nothing is assumed to have worked.
"""

import re
from dataclasses import dataclass

LINE_CHARACTERS_MAX = 500  # a longer line is cut; client ids can be long

MQTT_LISTENING = "Listening for MQTT clients on "
READY = "Server is ready"
RELOADED = "Reloaded server configuration"
RELOAD_FAILED = "Failed to reload server configuration"
ADDRESS_IN_USE = "address already in use"
NO_ROOM = "no space left on device"

_LINE = re.compile(r"\[\d+\] \S+ \S+ \[(?P<tag>[A-Z]{3})\](?: (?P<text>.*))?", re.DOTALL)
_CLIENT = re.compile(r" - mid:\d+\b")  # the mark of lines about an MQTT connection
_LEVELS = {
    "TRC": "debug",
    "DBG": "debug",
    "INF": "debug",  # `embedded` says itself what matters of these
    "WRN": "warning",
    "ERR": "error",
    "FTL": "critical",
}


@dataclass(frozen=True)
class LogLine:
    """One line: a structlog level and its text without time and process number."""

    level: str
    text: str


def parse_line(raw: bytes) -> LogLine:
    """Any bytes as a LogLine; what isn't in the server's format (a Go panic, say) is an error line."""
    text = raw.decode("utf-8", errors="replace").strip()[:LINE_CHARACTERS_MAX]
    match = _LINE.fullmatch(text)
    if match is None:
        return LogLine("error", text)
    level = _LEVELS.get(match["tag"], "error")
    said = match["text"] or ""
    if level == "error" and _CLIENT.search(said):
        level = "warning"
    return LogLine(level, said)


class LineLimit:
    """Lets through so many lines a second; counts the rest until the next second begins."""

    def __init__(self, lines_per_second_max: int) -> None:
        self._max = lines_per_second_max
        self._second = -1
        self._passed = 0
        self._dropped = 0

    def admit(self, now_s: float) -> tuple[bool, int]:
        """(whether to pass this line on, how many dropped before it nobody has been told of)."""
        dropped_before = 0
        if int(now_s) != self._second:
            self._second = int(now_s)
            self._passed = 0
            dropped_before, self._dropped = self._dropped, 0
        if self._passed < self._max:
            self._passed += 1
            return True, dropped_before
        self._dropped += 1
        return False, dropped_before
