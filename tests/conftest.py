"""What every test gets: servers on PATH, a real MicroPython, and two house rules that make a test fail.

The rules: in CI (the variable CI is set) a skipped test is a failed one, unless it is marked `hardware`; and
a test that leaves a process running fails, with that process ended.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from surge_cli.micropython import Interpreter, find_micropython

sys.path.insert(0, str(Path(__file__).parent / "support"))

from postgresql_server import SHARED_PROCESSES, PostgresServer, running_server

IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
FUZZ_EXAMPLES_DEFAULT = 100

# Servers that `make test` unpacked come first; Debian keeps others in sbin, which isn't on everybody's PATH.
os.environ["PATH"] = os.pathsep.join(
    [str(Path(sys.prefix, "servers", "bin")), os.environ.get("PATH", os.defpath), "/usr/sbin"]
)

# No deadline: how long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile(
    "surge",
    deadline=None,
    max_examples=int(os.environ.get("SURGE_FUZZ_EXAMPLES", FUZZ_EXAMPLES_DEFAULT)),
    print_blob=True,
)
hypothesis.settings.load_profile("surge")


@pytest.fixture(scope="session")
def micropython() -> Interpreter:
    """A real MicroPython that can run the firmware."""
    return find_micropython()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A PostgreSQL for the whole session: a test takes a database of its own, from `postgresql.database`."""
    with running_server() as server:
        yield server


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    report = yield
    if IN_CI and _is_skip(report) and item.get_closest_marker("hardware") is None:
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[Any]:
    # A whole module can skip itself while it is being imported.
    report = yield
    if IN_CI and _is_skip(report):
        _fail(report)
    return report


def _is_skip(report: pytest.TestReport | pytest.CollectReport) -> bool:
    return report.outcome == "skipped" and not hasattr(report, "wasxfail")


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = (
        f"CI counts a skipped test as a failed one: {reason}\n"
        "Supply what it needs, or mark it `hardware` if that is a real board."
    )


@pytest.fixture(autouse=True)
def _no_process_left_behind() -> Iterator[None]:
    before = _running_children()
    yield
    kept = before.keys() | SHARED_PROCESSES
    left = {pid: command for pid, command in _running_children().items() if pid not in kept}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    if left:
        pytest.fail(f"the test left processes running (ended now): {left}", pytrace=False)


def _running_children() -> dict[int, str]:
    """pid -> command line of this process's running children; empty where there is no /proc."""
    children: dict[int, str] = {}
    for listing in Path("/proc/self/task").glob("*/children"):
        for pid in _read(listing).split():
            state = _read(Path("/proc", pid, "stat")).rpartition(")")[2].split()[:1]
            command = _read(Path("/proc", pid, "cmdline")).replace("\0", " ").strip()
            # An ended child stays a zombie (Z) until it is waited for; a starting one may have no command
            # line yet. Python starts its resource tracker once for all.
            if state not in ([], ["Z"], ["X"]) and "multiprocessing.resource_tracker" not in command:
                children[int(pid)] = command
    return children


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it ended meanwhile
        return ""
