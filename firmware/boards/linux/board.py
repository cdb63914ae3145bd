"""Linux: a Raspberry Pi or any PC with MicroPython's unix port.

The system sees to the network and restarts the process, so there is no watchdog: ``reset`` leaves with
``RESTART_EXIT_CODE`` and whatever started the firmware (systemd's Restart=always, for one) starts it again.
Resources come from /proc and /sys; a file that this machine doesn't have means an absent value.
"""

import os

from boards.linux.stop_signals import StopSignals
from surge_device.board import BaseBoard, read_disk

RESTART_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: "try again"
_IDLE, _IOWAIT = 4, 5  # places in /proc/stat's first line, counted with the name (proc(5))
_LOOPBACK = "lo"
_THERMAL = "class/thermal"
_HWMON = "class/hwmon"


class Board(BaseBoard):
    name = "linux"

    def __init__(self, settings, data_dir, proc="/proc", sys="/sys"):
        BaseBoard.__init__(self, settings, data_dir)
        self._proc = proc + "/"
        self._sys = sys + "/"
        self._cpu = self._read_cpu()
        self._temperature_file = self._find_temperature()
        self._stop_signals = None

    def read_resources(self):
        values = {}
        self._busy(values)
        self._memory(values)
        read_disk(self.data_dir, values)
        self._network(values)
        uptime = _first_line(self._proc + "uptime")
        if uptime:
            values["host_uptime"] = int(uptime.split(".")[0])
        if self._temperature_file:
            millidegrees = _first_line(self._temperature_file)
            if millidegrees:
                values["temp"] = int(millidegrees) / 1000
        return values

    def unique_id(self):
        return _first_line("/etc/machine-id").encode()

    def reset(self):
        raise SystemExit(RESTART_EXIT_CODE)

    def hear_stop(self):
        self._stop_signals = StopSignals()
        return self._stop_signals.heard

    def stop_asked(self):
        return self._stop_signals.asked()

    def _busy(self, values):
        before, self._cpu = self._cpu, self._read_cpu()
        if before and self._cpu:
            total = self._cpu[0] - before[0]
            if total > 0:
                values["cpu"] = round(100 * (total - (self._cpu[1] - before[1])) / total, 1)

    def _read_cpu(self):
        """(all, idle) clock ticks since start, or None."""
        fields = _first_line(self._proc + "stat").split()
        if len(fields) <= _IOWAIT or fields[0] != "cpu":
            return None
        # guest and guest_nice (from the 9th) are in user and nice already
        total = sum([int(field) for field in fields[1:9]])
        return total, int(fields[_IDLE]) + int(fields[_IOWAIT])

    def _memory(self, values):
        for line in _lines(self._proc + "meminfo"):
            if line.startswith("MemTotal:"):
                values["mem_total"] = int(line.split()[1]) * 1024
            elif line.startswith("MemAvailable:"):
                values["mem_free"] = int(line.split()[1]) * 1024
                break

    def _network(self, values):
        sent = received = 0
        found = False
        for line in _lines(self._proc + "net/dev"):
            name, colon, counters = line.partition(":")
            if colon and name.strip() != _LOOPBACK:
                fields = counters.split()
                received += int(fields[0])
                sent += int(fields[8])
                found = True
        if found:
            values["tx_bytes"] = sent
            values["rx_bytes"] = received
        for line in _lines(self._proc + "net/wireless"):
            name, colon, quality = line.partition(":")
            if colon:
                level = int(float(quality.split()[2].rstrip(".")))
                if level < 0:  # some drivers give an arbitrary scale instead of dBm
                    values["rssi"] = level
                break

    def _find_temperature(self):
        """The file of the processor's temperature in thousandths of a degree, or None."""
        for folder, kind, file, wanted in (
            (_THERMAL, "type", "temp", ("cpu-thermal", "cpu_thermal", "x86_pkg_temp", "soc_thermal")),
            (_HWMON, "name", "temp1_input", ("cpu_thermal", "coretemp", "k10temp")),
        ):
            for entry in _entries(self._sys + folder):
                path = self._sys + folder + "/" + entry + "/"
                if _first_line(path + kind).strip() in wanted and _first_line(path + file).strip():
                    return path + file
        return None


def _lines(path):
    try:
        with open(path) as file:
            for line in file:
                yield line
    except OSError:
        return


def _first_line(path):
    """The first line, or "" when the file isn't there or can't be read."""
    try:
        with open(path) as file:
            return file.readline()
    except OSError:
        return ""


def _entries(path):
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []
