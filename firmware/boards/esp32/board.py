"""ESP32 and its relatives (S2, S3, C3, C6) with stock MicroPython; the rest is ``surge_device.wifi_board``.

The classic ESP32 has a sensor that counts in Fahrenheit and is only roughly calibrated; the later chips have
one in Celsius.
"""

import esp32

from surge_device.wifi_board import WifiBoard

WATCHDOG_MS = 30000


class Board(WifiBoard):
    name = "esp32"
    watchdog_ms = WATCHDOG_MS

    def read_resources(self):
        values = WifiBoard.read_resources(self)
        # MicroPython's heap lies in the IDF's regions and grows out of them: what is free there is free too.
        regions = esp32.idf_heap_info(esp32.HEAP_DATA)  # total, free, largest free, least free ever
        values["mem_total"] = sum([region[0] for region in regions])
        values["mem_free"] += sum([region[1] for region in regions])
        if hasattr(esp32, "mcu_temperature"):
            values["temp"] = esp32.mcu_temperature()
        elif hasattr(esp32, "raw_temperature"):
            values["temp"] = round((esp32.raw_temperature() - 32) / 1.8, 1)
        return values
