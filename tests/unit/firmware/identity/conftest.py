"""The firmware's sources and the tests' doubles are on no installed path: this adds them."""

import sys
from pathlib import Path

_ROOT = Path(__file__).parents[4]
for folder in (_ROOT / "firmware", Path(__file__).parents[1] / "outbox"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
