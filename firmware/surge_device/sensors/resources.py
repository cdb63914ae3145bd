"""The device's own resources as a sensor: whatever the board can measure (``surge_device.meter``)."""

from surge_device.sensors.registry import driver


@driver("resources")
class Resources:
    options = ()

    def __init__(self, options, meter):
        self._meter = meter

    async def read(self):
        return self._meter.sample()
