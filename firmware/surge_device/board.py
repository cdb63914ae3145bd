"""What the firmware asks of a board: one class for each, in ``boards.<name>.board``, that overrides what it
can do.

The app makes one ``Board(settings, data_dir)`` and passes it on; nothing else imports machine, network or
esp32. Rules: a board never invents a reading: what it can't measure is absent from ``read_resources``. It
doesn't log, sleep (but in ``connect``) or keep data.

``read_resources`` gives a dict with any of these keys (the meter adds the units):
    cpu           busy share of the processor since the last call, percent; where the board can't tell,
                  ``surge_device.busy`` measures the event loop
    mem_free mem_total      bytes of the heap on a microcontroller, of the machine on Linux
    disk_free disk_total    bytes of the file system that the data directory is in
    temp          degrees Celsius of the chip
    rssi          dBm of the Wi-Fi
    tx_bytes rx_bytes      bytes over the network since start of the system, without loopback
    host_uptime   seconds since start of the machine, where that is not the device's own uptime
"""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from surge_device.busy import BusyProbe

SECONDS_1970_TO_2000 = 946684800


class BaseBoard:
    name = "board"
    watchdog_ms = 0  # period after which an unfed watchdog resets the board; 0: there is none
    probe: "BusyProbe | None" = None  # to be run as a task, on boards that can't tell their load

    def __init__(self, settings, data_dir):
        self.settings = settings
        self.data_dir = data_dir

    async def connect(self):
        """Returns once the network is up; at once where the system sees to it. Raises NetworkError."""

    def connected(self):
        """Whether the network is up, as far as the board can tell."""
        return True

    def read_resources(self):
        """Only what this board can measure; see the module."""
        return {}

    def unique_id(self):
        """Bytes that tell this piece of hardware from others, or b"" where there are none. Not secret."""
        return b""

    def start_watchdog(self):
        """From now on the board resets unless ``feed_watchdog`` is called within ``watchdog_ms``."""

    def feed_watchdog(self):
        """Postpones the reset."""

    def reset(self):
        """Starts the firmware anew; doesn't return."""
        raise SystemExit(1)

    def hear_stop(self):
        """From now on ``stop_asked`` tells; returns whether it does. A microcontroller just loses power."""
        return False

    def stop_asked(self):
        """The signal by which the system asked the firmware to end, or None."""

    def entropy(self, length):
        """Random bytes from the system's or the chip's generator."""
        return os.urandom(length)

    def sync(self, file):
        """Returns when the file's bytes are durable: fsync(2) on the unix port, a commit on littlefs."""
        file.flush()


def read_disk(path, values):
    """disk_free and disk_total of the file system of ``path``."""
    status = os.statvfs(path)
    values["disk_free"] = status[1] * status[4]  # f_frsize, f_bavail: what an ordinary user may still write
    values["disk_total"] = status[1] * status[2]


def epoch_offset_s():
    """Seconds to add to time.time() to count from 1970: 0, or 30 years where the port's epoch is 2000."""
    return SECONDS_1970_TO_2000 if time.gmtime(0)[0] == 2000 else 0
