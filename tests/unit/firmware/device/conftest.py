"""Lets these tests import the firmware, their own case modules and the firmware tests' common doubles."""

import sys
from pathlib import Path

from surge_cli.sources import firmware_folder

HERE = Path(__file__).parent
for folder in (firmware_folder(), HERE, HERE.parent / "outbox"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
