"""Short log lines, gated by level before anything is formatted, and the last few of them kept for a report.

Writes through a function (``print`` on a board). Rules: a hidden text (a password) never reaches the output
or the ring, whatever the line; a line is cut at ``LINE_MAX`` characters; the ring has a fixed number of
places.
"""

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
_LETTER = {DEBUG: "D", INFO: "I", WARNING: "W", ERROR: "E"}

LINE_MAX = 160  # characters; the rest of a longer line is cut and marked
RING_LEN = 16


class Log:
    def __init__(self, level, uptime_ms, write=print, ring_len=RING_LEN):
        self.level = level
        self._uptime_ms = uptime_ms
        self._write = write
        self._ring = [""] * ring_len
        self._next = 0
        self._hidden = []

    def hide(self, text):
        """Never show ``text`` (a secret) from now on."""
        if text and text not in self._hidden:
            self._hidden.append(text)

    def debug(self, event, *values):
        if self.level <= DEBUG:
            self._emit(DEBUG, event, values)

    def info(self, event, *values):
        if self.level <= INFO:
            self._emit(INFO, event, values)

    def warning(self, event, *values):
        if self.level <= WARNING:
            self._emit(WARNING, event, values)

    def error(self, event, *values):
        if self.level <= ERROR:
            self._emit(ERROR, event, values)

    def last(self):
        """The kept lines, oldest first."""
        places = len(self._ring)
        lines = []
        for step in range(places):
            line = self._ring[(self._next + step) % places]
            if line:
                lines.append(line)
        return lines

    def _emit(self, level, event, values):
        uptime_ms = self._uptime_ms()
        line = "%s %d.%03d %s" % (_LETTER[level], uptime_ms // 1000, uptime_ms % 1000, event)
        for value in values:
            line += " " + str(value)
        for secret in self._hidden:
            line = line.replace(secret, "***")
        line = line.replace("\r", " ").replace("\n", " ")  # one event is one line, whatever a server sent
        if len(line) > LINE_MAX:
            line = line[: LINE_MAX - 3] + "..."
        self._ring[self._next] = line
        self._next = (self._next + 1) % len(self._ring)
        self._write(line)
