"""Runs `linux_cases` on both interpreters."""

from pathlib import Path

import pytest
from both_interpreters import case_names, run_here, run_on_micropython

from surge_cli.micropython import Interpreter

MODULE = "linux_cases"


@pytest.mark.parametrize("case", case_names(MODULE))
def test_on_cpython(case: str, tmp_path: Path) -> None:
    run_here(MODULE, case, tmp_path)


def test_on_micropython(micropython: Interpreter, tmp_path: Path) -> None:
    run_on_micropython(micropython, MODULE, tmp_path)
