"""A number in a file, as Linux's sysfs gives them: hwmon, IIO, thermal zones, 1-wire, power supplies.

The value is the file's first word times ``scale`` plus ``offset``; with scale 1 and offset 0 a whole number
stays one.
"""

from surge_device.errors import SensorError
from surge_device.sensors.registry import driver

READ_MAX = 64  # characters looked at


@driver("file")
class File:
    options = (
        ("path", "text", "", 1, 256, "the file to read, for example /sys/class/thermal/thermal_zone0/temp"),
        ("name", "text", "value", 1, 32, "of the SenML record"),
        ("unit", "text", "", 0, 16, "from SenML's registry, for example Cel"),
        ("scale", "number", 1, -1e12, 1e12, "what the number is multiplied by, for example 0.001"),
        ("offset", "number", 0, -1e12, 1e12, "what is added after that"),
    )

    def __init__(self, options, meter):
        self._path = options["path"]
        self._name = options["name"]
        self._unit = options["unit"]
        self._scale = options["scale"]
        self._offset = options["offset"]

    async def read(self):
        try:
            with open(self._path) as file:
                words = file.read(READ_MAX).split()
        except OSError as error:
            raise SensorError("%s: error %s" % (self._path, error.args[0]))
        try:
            value = _number(words[0]) * self._scale + self._offset
        except (IndexError, ValueError):
            raise SensorError("%s: no number" % self._path)
        if not -3.4e38 < value < 3.4e38:  # also false for NaN
            raise SensorError("%s: no finite number" % self._path)
        return [(self._name, self._unit, value)]


def _number(word):
    """A whole number stays one."""
    try:
        return int(word)
    except ValueError:
        return float(word)
