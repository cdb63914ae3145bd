"""Runs each case module twice: here, by import, and in a real MicroPython, by subprocess."""

import importlib
import os
import subprocess
from pathlib import Path

import pytest

from surge_cli.micropython import Interpreter
from surge_cli.sources import micropython_path

HERE = Path(__file__).parent
MODULES = ("packet_cases", "client_cases")


def case_names(module: str) -> list[str]:
    return sorted(name for name in vars(importlib.import_module(module)) if name.startswith("case_"))


@pytest.mark.parametrize(
    ("module", "case"), [(module, case) for module in MODULES for case in case_names(module)]
)
def test_on_cpython(module: str, case: str) -> None:
    getattr(importlib.import_module(module), case)()


@pytest.mark.parametrize("module", MODULES)
def test_on_micropython(module: str, micropython: Interpreter) -> None:
    done = subprocess.run(
        [*micropython.argv, "-X", "heapsize=256k", str(HERE / "run_cases.py"), str(HERE), module],
        env={**os.environ, "MICROPYPATH": micropython_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    ran = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("ok ")]
    assert (done.returncode, ran) == (0, case_names(module)), done.stdout + done.stderr
