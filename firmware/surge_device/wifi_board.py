"""What ESP32 and Pico W share: Wi-Fi, the heap, littlefs, a hardware watchdog. The boards add what differs.

Only imported on a board: MicroPython's unix port has no ``network`` and no ``machine.WDT``.
"""

import asyncio
import gc
import time

import machine
import network

from surge_device.board import BaseBoard, read_disk
from surge_device.busy import BusyProbe
from surge_device.errors import NetworkError

JOIN_LOOK_MS = 100
WORLD_WIDE = "XX"  # the channels that every country allows


class WifiBoard(BaseBoard):
    def __init__(self, settings, data_dir):
        BaseBoard.__init__(self, settings, data_dir)
        if settings.wifi_country != WORLD_WIDE:
            network.country(settings.wifi_country)
        self.wlan = network.WLAN(network.STA_IF)
        self.probe = BusyProbe(time.ticks_ms, time.ticks_diff)
        self._watchdog = None

    async def connect(self):
        wlan, settings = self.wlan, self.settings
        if wlan.isconnected():
            return
        if not settings.wifi_ssid:
            raise NetworkError("no Wi-Fi is set; remedy: set wifi_ssid in settings.json")
        wlan.active(True)
        wlan.connect(settings.wifi_ssid, settings.wifi_password)
        started = time.ticks_ms()
        while not wlan.isconnected():
            if time.ticks_diff(time.ticks_ms(), started) > settings.wifi_timeout_s * 1000:
                status = wlan.status()
                wlan.disconnect()
                raise NetworkError(
                    "Wi-Fi '%s' not joined in %d s (status %s); remedy: check name, password and distance"
                    % (settings.wifi_ssid, settings.wifi_timeout_s, status)
                )
            await asyncio.sleep_ms(JOIN_LOOK_MS)

    def connected(self):
        return self.wlan.isconnected()

    def read_resources(self):
        free = gc.mem_free()
        values = {"mem_free": free, "mem_total": free + gc.mem_alloc()}
        read_disk(self.data_dir, values)
        busy = self.probe.take()
        if busy is not None:
            values["cpu"] = busy
        if self.wlan.isconnected():
            values["rssi"] = self.wlan.status("rssi")
        return values

    def unique_id(self):
        return machine.unique_id()

    def start_watchdog(self):
        self._watchdog = machine.WDT(timeout=self.watchdog_ms)

    def feed_watchdog(self):
        if self._watchdog is not None:
            self._watchdog.feed()

    def reset(self):
        machine.reset()
