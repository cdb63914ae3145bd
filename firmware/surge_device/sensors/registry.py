"""Sensors: what the owner's settings name, read one by one, each reading a SenML record.

A driver is a class with ``options`` (rows as in ``surge_device.settings.TABLE``) and ``async read()``,
which gives a list of (name, unit, value) or raises SensorError. ``@driver("name")`` puts it into the
registry. ``make_sensors`` builds those that the settings name; ``read_all`` reads them. Doesn't schedule or
send. Rules: a reading that failed is absent and counted, never made up; an unknown driver or option names
the nearest known.
"""

from surge_device.errors import SensorError, SettingsError
from surge_device.nearest import suggestion
from surge_device.settings import check

_drivers = {}


def driver(name):
    """Registers a driver class under the name that settings use."""

    def register(made):
        made.driver_name = name
        _drivers[name] = made
        return made

    return register


def make_sensors(wanted, meter):
    """The sensors for the ``sensors`` list of the settings. Raises SettingsError."""
    sensors = []
    for given in wanted:
        options = dict(given)
        name = options.pop("driver")
        if name not in _drivers:
            raise SettingsError("sensors: no driver '%s'; remedy: %s" % (name, suggestion(name, _drivers)))
        made = _drivers[name]
        sensors.append(made(check("sensors: driver '%s'" % name, options, made.options), meter))
    return sensors


async def read_all(sensors, meter, log):
    """All records that could be read now."""
    records = []
    for sensor in sensors:
        try:
            records += await sensor.read()
        except SensorError as error:
            meter.sensor_errors += 1
            log.warning("sensor-failed", sensor.driver_name, error.reason)
    return records
