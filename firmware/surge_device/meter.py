"""Measures the device itself: resources as SenML records, and usage as counters since boot.

Reads the board and the clock. Doesn't send, store or convert: the app puts both into a report. Rules: what
the board doesn't measure is absent; whole quantities stay integers; usage only grows within a boot, and is
the cross-check of what the backend counts itself, never the invoice.
"""

from surge_wire.report import Usage

# Resource -> unit of the SenML registry (RFC 8428 section 12.1, RFC 8798), in the order of the records.
UNITS = (
    ("cpu", "%"),
    ("mem_free", "B"),
    ("mem_total", "B"),
    ("disk_free", "B"),
    ("disk_total", "B"),
    ("temp", "Cel"),
    ("rssi", "dBm"),
    ("tx_bytes", "B"),
    ("rx_bytes", "B"),
    ("host_uptime", "s"),
)


class Meter:
    def __init__(self, board, clock):
        self._board = board
        self._clock = clock
        self.reports = 0  # sealed
        self.samples = 0  # SenML records in sealed reports
        self.bytes = 0  # of sealed envelopes
        self.sensor_errors = 0  # readings that failed, and records that no report can carry

    def sample(self):
        """(name, unit, value) of every resource that the board can measure now, and the device's uptime."""
        found = self._board.read_resources()
        records = [(name, unit, found[name]) for name, unit in UNITS if name in found]
        records.append(("uptime", "s", self._clock.uptime_ms() // 1000))
        return records

    def count_report(self, samples, length):
        """Takes one sealed report into the usage."""
        self.reports += 1
        self.samples += samples
        self.bytes += length

    def usage(self, dropped):
        """The totals of this boot, for the next report; ``dropped`` is the outbox's count."""
        return Usage(self.reports, self.samples, self.bytes, dropped)
