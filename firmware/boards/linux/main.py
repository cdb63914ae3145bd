"""Starts the device on Linux: ``micropython main.py DATA_DIR``, with MICROPYPATH naming the firmware.

DATA_DIR holds what provisioning wrote (identity.json, settings.json); the device keeps its counters and its
outbox there. Exit codes: 2 what must be put right first, as the last line says; 75 "start me again"; 130
and 143 ended in order by SIGINT or SIGTERM.
"""

import gc
import sys

gc.threshold(8192)  # collecting often keeps the heap in one piece; before the imports, which scatter it most

from boards.linux.board import Board  # noqa: E402
from surge_device.app import start  # noqa: E402

if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: main.py DATA_DIR")
        sys.exit(2)
    try:
        sys.exit(start(Board, sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
