"""The rules in tests/conftest.py do make a test fail, and only the tests they should."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]

SUITE = """
import subprocess, sys
import pytest

def test_passes(): pass

def test_skips(): pytest.skip("no such server")

@pytest.mark.hardware
def test_needs_a_board(): pytest.skip("no board")

@pytest.mark.xfail(reason="known")
def test_is_known_to_fail(): raise ValueError

def test_leaves_a_process():
    subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)

@pytest.fixture(scope="module")
def server():
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process

def test_uses_a_modules_server(server): assert server.poll() is None
"""


def run_suite(folder: Path, ci: str) -> dict[str, int]:
    """pytest's counts for SUITE, run under the repository's own conftest and settings."""
    (folder / "conftest.py").write_text((REPOSITORY / "tests" / "conftest.py").read_text())
    shutil.copytree(REPOSITORY / "tests" / "support", folder / "support")
    (folder / "test_suite.py").write_text(SUITE)
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(REPOSITORY / "pyproject.toml")]
    command += [
        "--rootdir",
        str(folder),
        "--junitxml",
        str(report),
        "-p",
        "no:cacheprovider",
        "-p",
        "no:warnings",
    ]
    result = subprocess.run(
        [*command, str(folder)], env={**os.environ, "CI": ci}, capture_output=True, text=True, check=False
    )
    last = result.stdout.strip().splitlines()[-1]
    words = last.replace(",", "").split()
    return {word.rstrip("s"): int(count) for count, word in itertools.pairwise(words) if count.isdigit()}


def test_a_skip_fails_in_ci_unless_it_needs_hardware(tmp_path: Path) -> None:
    counts = run_suite(tmp_path, ci="1")

    assert counts == {"passed": 3, "failed": 1, "skipped": 1, "xfailed": 1, "error": 1}


def test_a_skip_is_a_skip_on_a_desk(tmp_path: Path) -> None:
    counts = run_suite(tmp_path, ci="")

    assert counts == {"passed": 3, "skipped": 2, "xfailed": 1, "error": 1}
