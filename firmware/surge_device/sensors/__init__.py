"""Sensors: a registry (``registry``) and the drivers, which register themselves when this package is
imported."""

from surge_device.sensors import file, resources
from surge_device.sensors.registry import driver, make_sensors, read_all

__all__ = ["driver", "file", "make_sensors", "read_all", "resources"]
