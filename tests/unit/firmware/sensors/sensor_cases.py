"""Cases of the sensors: the registry, the two drivers, and failures that are counted and never filled in."""

import asyncio

from expect import raises

from surge_device.errors import SensorError, SettingsError
from surge_device.sensors import driver, make_sensors, read_all


class StandInMeter:
    def __init__(self):
        self.sensor_errors = 0

    def sample(self):
        return [("uptime", "s", 5)]


class Lines:
    def __init__(self):
        self.lines = []

    def warning(self, *values):
        self.lines.append(values)


def read(wanted):
    meter, log = StandInMeter(), Lines()
    records = asyncio.run(read_all(make_sensors(wanted, meter), meter, log))
    return records, meter.sensor_errors, log.lines


def write(folder, text):
    path = folder + "/value"
    with open(path, "w") as file:
        file.write(text)
    return path


def case_resources_are_the_meters(folder):
    assert read([{"driver": "resources"}]) == ([("uptime", "s", 5)], 0, [])


def case_a_file_gives_a_scaled_number(folder):
    path = write(folder, "48312\n")
    given = {"driver": "file", "path": path, "name": "temp", "unit": "Cel", "scale": 0.5, "offset": 1}
    assert read([given])[0] == [("temp", "Cel", 24157.0)]
    assert read([{"driver": "file", "path": path}])[0] == [("value", "", 48312)]
    assert isinstance(read([{"driver": "file", "path": path}])[0][0][2], int)
    path = write(folder, " 21.5 degrees")
    assert read([{"driver": "file", "path": path}])[0] == [("value", "", 21.5)]


def case_a_failed_reading_is_absent_and_counted_and_the_others_are_read(folder):
    for text in ("", "warm", "nan", "inf", "1e99"):
        path = write(folder, text)
        records, errors, lines = read([{"driver": "file", "path": path}, {"driver": "resources"}])
        assert records == [("uptime", "s", 5)], text
        assert errors == 1
        assert lines[0][:2] == ("sensor-failed", "file")
    records, errors, lines = read([{"driver": "file", "path": folder + "/none"}])
    assert (records, errors) == ([], 1)
    assert "error 2" in lines[0][2]


def case_unknown_drivers_and_options_name_the_nearest_known(folder):
    error = str(raises(SettingsError, make_sensors, [{"driver": "resource"}], None))
    assert "did you mean 'resources'?" in error
    error = str(raises(SettingsError, make_sensors, [{"driver": "file", "path": "/x", "scal": 2}], None))
    assert "did you mean 'scale'?" in error
    raises(SettingsError, make_sensors, [{"driver": "file"}], None)
    raises(SettingsError, make_sensors, [{"driver": "file", "path": "/x", "scale": "2"}], None)


def case_a_driver_of_ones_own_is_found_by_its_name(folder):
    @driver("broken")
    class Broken:
        options = (("pin", "int", 4, 0, 40, "where it is wired"),)

        def __init__(self, options, meter):
            self.pin = options["pin"]

        async def read(self):
            raise SensorError("nothing on pin %d" % self.pin)

    records, errors, lines = read([{"driver": "broken", "pin": 7}])
    assert (records, errors, lines) == ([], 1, [("sensor-failed", "broken", "nothing on pin 7")])
