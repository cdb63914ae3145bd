"""Lets these tests import the firmware and their own case modules."""

import sys
from pathlib import Path

from surge_cli.sources import firmware_folder

for folder in (firmware_folder(), Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
