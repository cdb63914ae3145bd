"""Raspberry Pi Pico W (RP2040) with stock MicroPython; the rest is ``surge_device.wifi_board``.

The watchdog can't be stopped, and counts to 8,388 ms at most (RP2040 data sheet section 4.7.2: 24 bits at two
counts a microsecond).
"""

import machine

from surge_device.wifi_board import WifiBoard

WATCHDOG_MS = 8388

# RP2040 data sheet section 4.9.5: T = 27 - (V - 0.706) / 0.001721, V at ADC input 4, reference 3.3 V.
_TEMPERATURE_INPUT = 4
_VOLTS_PER_COUNT = 3.3 / 65535
_VOLTS_AT_27_DEGREES = 0.706
_VOLTS_PER_DEGREE = 0.001721


class Board(WifiBoard):
    name = "pico_w"
    watchdog_ms = WATCHDOG_MS

    def __init__(self, settings, data_dir):
        WifiBoard.__init__(self, settings, data_dir)
        self._temperature = machine.ADC(_TEMPERATURE_INPUT)

    def read_resources(self):
        values = WifiBoard.read_resources(self)
        volts = self._temperature.read_u16() * _VOLTS_PER_COUNT
        values["temp"] = round(27 - (volts - _VOLTS_AT_27_DEGREES) / _VOLTS_PER_DEGREE, 1)
        return values
