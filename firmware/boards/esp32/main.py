"""Starts the device at power-up: copied to the board as main.py, or frozen under that name.

``start`` returns only where the device can't start, having said why on the console.
"""

import gc

gc.threshold(8192)  # collecting often keeps the heap in one piece; before the imports, which scatter it most

from boards.esp32.board import Board  # noqa: E402
from surge_device.app import start  # noqa: E402

start(Board, "/surge")
