"""Starts the device on Linux: ``micropython main.py DATA_DIR``, with MICROPYPATH naming the firmware.

DATA_DIR holds what provisioning wrote (identity.json, settings.json); the device keeps its counters and its
outbox there.
"""

import sys

from boards.linux.board import Board
from surge_device.app import start
from surge_device.errors import DeviceError

if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: main.py DATA_DIR")
        sys.exit(2)
    try:
        start(Board, sys.argv[1])
    except DeviceError as error:
        print("E start", error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
