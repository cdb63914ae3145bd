"""Runs the device's case modules on both interpreters."""

from pathlib import Path

import pytest
from both_interpreters import case_names, run_here, run_on_micropython

from surge_cli.micropython import Interpreter

MODULES = ("reading_cases", "sealer_cases", "courier_cases", "commands_cases", "sampler_cases")


@pytest.mark.parametrize(
    ("module", "case"), [(module, case) for module in MODULES for case in case_names(module)]
)
def test_on_cpython(module: str, case: str, tmp_path: Path) -> None:
    run_here(module, case, tmp_path)


HEAP = (
    "1m"  # the firmware's and the cases' sources are compiled in it; the device's own heap is tried elsewhere
)


@pytest.mark.parametrize("module", MODULES)
def test_on_micropython(module: str, micropython: Interpreter, tmp_path: Path) -> None:
    run_on_micropython(micropython, module, tmp_path, heap=HEAP)
