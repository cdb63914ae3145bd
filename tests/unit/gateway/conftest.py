"""Doubles that the gateway's tests share stand in `support`; real keys, signatures and file formats."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))
