"""Where the boards' sources are: in a checkout, or beside this package in an installed wheel.

Place in the flow: whatever runs the firmware on this machine asks here what to put into MICROPYPATH, and
whatever makes images for boards asks here for the files. Does not run or change anything.
"""

from pathlib import Path

import surge_wire
from surge_host.errors import UserError

_CHECKOUT = Path(__file__).resolve().parents[2] / "firmware"
_INSTALLED = Path(__file__).resolve().parent / "_firmware"


def firmware_folder() -> Path:
    """The folder that holds `surge_device` and `boards`."""
    for folder in (_CHECKOUT, _INSTALLED):
        if (folder / "surge_device").is_dir():
            return folder
    raise UserError("the firmware's sources are missing", str(_INSTALLED), "install Surge again")


def micropython_path() -> str:
    """MICROPYPATH for the firmware: frozen modules first, so that nothing here can stand in for them."""
    wire_folder = Path(next(iter(surge_wire.__path__))).resolve().parent
    return f".frozen:{wire_folder}:{firmware_folder()}"
