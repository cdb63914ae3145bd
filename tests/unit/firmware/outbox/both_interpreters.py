"""Runs a module of ``case_...(folder)`` functions on this CPython, by import, and on a real MicroPython."""

import importlib
import os
import subprocess
from pathlib import Path

from surge_cli.micropython import Interpreter
from surge_cli.sources import micropython_path

HERE = Path(__file__).parent


def case_names(module: str) -> list[str]:
    return sorted(name for name in vars(importlib.import_module(module)) if name.startswith("case_"))


def run_here(module: str, case: str, folder: Path) -> None:
    cases = importlib.import_module(module)
    try:
        getattr(cases, case)(str(folder))
    finally:
        getattr(cases, "clean_up", int)()


def run_on_micropython(
    interpreter: Interpreter, module: str, folder: Path, *options: str, heap: str = "256k"
) -> str:
    """All cases of the module in one process, each in its own sub-folder; returns what it printed."""
    source = Path(str(importlib.import_module(module).__file__)).parent
    script = str(HERE / "run_cases.py")
    done = subprocess.run(
        [
            *interpreter.argv,
            "-X",
            f"heapsize={heap}",
            script,
            str(HERE),
            str(source),
            module,
            str(folder),
            *options,
        ],
        env={**os.environ, "MICROPYPATH": micropython_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    ran = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("ok ")]
    assert (done.returncode, ran) == (0, case_names(module)), done.stdout + done.stderr
    return done.stdout
