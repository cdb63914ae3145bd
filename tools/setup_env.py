"""Makes the virtual environment that `make` runs everything in.

Place in the flow: called by the Makefile before anything else, so it needs nothing but Python's own
library, and its syntax stays readable for Python 3.7, which must get as far as the message that it is too
old.

Rules kept: every package comes from a lock in requirements/, checked by its hashes; a second run with the
same locks does nothing and takes no time; it touches no folder but the environment's. It installs no system
package.

Usage: python3 tools/setup_env.py --venv .venv [--board-stubs] LOCK [LOCK...]    (LOCK: dev, demo, lock)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys

PYTHON_MIN = (3, 11)
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STAMP_NAME = "surge-environment.json"
# Both boards' stubs have a `machine` module of their own, so each gets a folder of its own.
BOARD_STUBS = ("esp32", "rp2")
# These locks hold what builds and runs Surge, so the project itself goes with them.
LOCKS_WITH_PROJECT = ("demo", "dev")


def main(argv: list[str] | None = None) -> int:
    arguments = _parse(argv)
    if sys.version_info < PYTHON_MIN:
        sys.exit(
            f"surge: Python {PYTHON_MIN[0]}.{PYTHON_MIN[1]} or newer is needed\n"
            f"  where:  {sys.executable} is {sys.version.split()[0]}\n"
            "  remedy: install python3.11, then call `make PYTHON=python3.11 ...`"
        )
    venv = os.path.abspath(arguments.venv)
    wanted = list(arguments.locks)
    if arguments.board_stubs:
        wanted += ["stubs-" + board for board in BOARD_STUBS]
    digest = _digest_of_inputs()
    done = _read_stamp(venv, digest)
    missing = [name for name in wanted if name not in done]
    if not missing:
        return 0
    python = _ensure_venv(venv)
    for name in missing:
        _install_lock(python, venv, name)
    if any(name in LOCKS_WITH_PROJECT for name in missing):
        _install_project(python)
    _write_stamp(venv, digest, done + missing)
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the environment that `make` runs in.")
    parser.add_argument("--venv", default=".venv")
    parser.add_argument("--board-stubs", action="store_true", help="also install the boards' type stubs")
    parser.add_argument("locks", nargs="+", help="locks in requirements/, without .txt")
    return parser.parse_args(argv)


def _digest_of_inputs() -> str:
    """One digest over what the environment depends on: any change makes it all be checked again."""
    digest = hashlib.sha256(sys.version.encode() + sys.base_prefix.encode())
    folder = os.path.join(REPOSITORY, "requirements")
    paths = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".txt"))
    for path in [*paths, os.path.join(REPOSITORY, "pyproject.toml")]:
        with open(path, "rb") as source:
            digest.update(os.path.basename(path).encode() + b"\0" + source.read() + b"\0")
    return digest.hexdigest()


def _read_stamp(venv: str, digest: str) -> list[str]:
    """Names of the locks already installed from these very inputs."""
    try:
        with open(os.path.join(venv, STAMP_NAME), encoding="utf-8") as source:
            stamp = json.load(source)
    except (FileNotFoundError, ValueError):
        return []
    # A folder that was moved or copied has scripts that point to the old place.
    if stamp.get("digest") != digest or stamp.get("venv") != venv or stamp.get("repository") != REPOSITORY:
        return []
    return list(stamp["locks"])


def _write_stamp(venv: str, digest: str, locks: list[str]) -> None:
    path = os.path.join(venv, STAMP_NAME)
    with open(path + ".new", "w", encoding="utf-8") as target:
        json.dump({"digest": digest, "venv": venv, "repository": REPOSITORY, "locks": sorted(locks)}, target)
    os.replace(path + ".new", path)


def _ensure_venv(venv: str) -> str:
    """Path of the environment's Python; makes the environment if there is none that works."""
    python = os.path.join(venv, "bin", "python")
    if os.path.exists(python) and _succeeds([python, "-m", "pip", "--version"]):
        return python
    print(f"surge: making {venv} with Python {sys.version.split()[0]}", flush=True)
    if os.path.isdir(venv) and not os.path.exists(os.path.join(venv, "pyvenv.cfg")) and os.listdir(venv):
        sys.exit(
            f"surge: this folder holds something else than a Python environment\n  where:  {venv}\n"
            "  remedy: move it away, or set SURGE_VENV to another folder"
        )
    shutil.rmtree(venv, ignore_errors=True)
    if _succeeds([sys.executable, "-m", "venv", venv]):
        return python
    # Debian keeps ensurepip in a package of its own (python3-venv); an installed pip does as well.
    shutil.rmtree(venv, ignore_errors=True)
    if _succeeds([sys.executable, "-m", "pip", "--version"]):
        _run([sys.executable, "-m", "venv", "--without-pip", venv], "making " + venv)
        lock = _lock_path("pip")
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "--require-hashes",
            "-r",
            lock,
        ]
        _run(command, "installing pip into " + venv)
        return python
    sys.exit(
        f"surge: this Python can't make virtual environments\n  where:  {sys.executable}\n"
        "  remedy: install its venv module (on Debian and Ubuntu: apt-get install python3-venv)"
    )


def _install_lock(python: str, venv: str, name: str) -> None:
    print(f"surge: installing requirements/{name}.txt, checked by hash", flush=True)
    command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes"]
    if name.startswith("stubs-"):
        target = os.path.join(venv, "stubs", name[len("stubs-") :])
        shutil.rmtree(target, ignore_errors=True)
        command += ["--no-deps", "--target", target]
    _run([*command, "-r", _lock_path(name)], f"installing requirements/{name}.txt")


def _install_project(python: str) -> None:
    command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    # Building needs hatchling: it is in every lock that is installed before.
    _run([*command, "--no-build-isolation", "--editable", REPOSITORY], "installing Surge itself")


def _lock_path(name: str) -> str:
    return os.path.join(REPOSITORY, "requirements", name + ".txt")


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def _run(command: list[str], doing: str) -> None:
    code = subprocess.run(command).returncode
    if code:
        sys.exit(
            f"surge: {doing} failed with exit code {code}\n  where:  {' '.join(command)}\n"
            "  remedy: read pip's message above; the package registry must be reachable"
        )


if __name__ == "__main__":
    sys.exit(main())
