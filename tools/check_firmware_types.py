"""Checks the firmware against the types of each board's MicroPython, which can't be run on a host.

Place in the flow: run by the tests, and by hand as `python tools/check_firmware_types.py`. Needs mypy, and
the stubs that `tools/setup_env.py --board-stubs` put into the environment from requirements/stubs-*.txt. Both
boards' stubs have a `machine` of their own, so each board is a mypy run with a typeshed of its own.
Configuration: firmware/mypy_boards.ini. Changes nothing but mypy's cache.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
# Board -> name of its stubs' folder
BOARDS = {"esp32": "esp32", "pico_w": "rp2"}


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 when every board's check passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--firmware", type=Path, default=REPOSITORY / "firmware")
    parser.add_argument("--stubs", type=Path, default=Path(sys.prefix, "stubs"))
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".mypy_cache" / "boards")
    arguments = parser.parse_args(argv)
    failed = [
        board for board in BOARDS if not check(board, arguments.firmware, arguments.stubs, arguments.cache)
    ]
    return 1 if failed else 0


def check(board: str, firmware: Path, stubs: Path, cache: Path) -> bool:
    """Whether mypy finds nothing wrong for `board`; what it finds goes to stdout."""
    typeshed = stubs / BOARDS[board]
    if not (typeshed / "machine.pyi").is_file():
        print(
            f"surge: the MicroPython stubs for {board} are missing\n  where:  {typeshed}\n"
            f"  remedy: python3 tools/setup_env.py --venv {sys.prefix} --board-stubs dev"
        )
        return False
    print(f"surge: checking {board} against {typeshed.name}'s types", flush=True)
    search = [typeshed, firmware, REPOSITORY / "protocol"]
    command = [sys.executable, "-m", "mypy", "--config-file", str(firmware / "mypy_boards.ini")]
    command += ["--custom-typeshed-dir", str(typeshed), "--cache-dir", str(cache / board)]
    command += ["-m", f"boards.{board}.board", "-m", f"boards.{board}.main", "-p", "surge_device"]
    environment = {**os.environ, "MYPYPATH": os.pathsep.join(map(str, search))}
    return subprocess.run(command, env=environment, cwd=REPOSITORY, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
