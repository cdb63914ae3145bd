"""The Surge device firmware: samples, measures, seals and reports, on stock MicroPython 1.23 or later.

What differs between boards is behind ``surge_device.board``; what crosses the wire is ``surge_wire``.
No module here uses typing, dataclasses, enum or match, so that the same files run on a Pico W and on CPython.
"""

__version__ = "0.1.0"
