"""Makes sure that the servers which the tests talk to are on this machine, without installing them into it.

Place in the flow: `make test` calls it before pytest. What is on PATH is used as it is. What is missing is
taken from the machine's own Debian or Ubuntu archive by apt, which checks signatures and hashes, and
unpacked into a private folder (inside the environment). So nothing needs root, no service is started or
enabled, and removing the folder removes it all. tests/conftest.py puts the folder's bin/ on PATH.

Does not start a server: each test starts its own, on its own port, and stops it.

Usage: python3 tools/ensure_servers.py --into FOLDER
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Program -> Debian package that carries it.
SERVERS = {
    "mosquitto": "mosquitto",
    "mosquitto_passwd": "mosquitto",  # writes the password files that ours are held against
    "influxd": "influxdb",
    "victoria-metrics": "victoria-metrics",
    "openssl": "openssl",  # makes the certificates of the tests
}
# Debian keeps servers in sbin, which is not on everybody's PATH.
SYSTEM_BIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
UNPACKED_BIN = ("usr/bin", "usr/sbin")
# The machine's own loader and C library must match each other, so these are never taken from elsewhere.
NEVER_UNPACKED = ("libc6", "libc-bin")
APT_TIMEOUT_S = 300


class ServersUnavailable(Exception):
    """What the tests need is neither here nor to be had; str() says what, where and what to do."""

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(f"surge: {what}\n  where:  {where}\n  remedy: {remedy}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make sure that the servers which the tests need are here.")
    parser.add_argument("--into", type=Path, required=True, help="folder for what has to be unpacked")
    into: Path = parser.parse_args(argv).into.absolute()
    try:
        ensure_servers(into)
    except ServersUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def ensure_servers(into: Path) -> None:
    """Have every program of SERVERS on PATH, in sbin or in `into`/bin; else ServersUnavailable."""
    missing = {program: package for program, package in SERVERS.items() if find_server(program, into) is None}
    if not missing:
        return
    names = ", ".join(missing)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ServersUnavailable(
            f"the tests need programs that are not here: {names}",
            "PATH",
            "install them with this system's package manager (this script serves Debian and Ubuntu only)",
        )
    print(f"surge: unpacking {names} from this machine's package archive (nothing is installed)", flush=True)
    into.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(into, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="servers-", dir=into.parent) as temporary:
        work = Path(temporary)
        packages = _download(sorted(set(missing.values())), work / "apt")
        tree = work / "tree"
        for package in packages:
            _run(["dpkg-deb", "--extract", str(package), str(tree)], f"unpacking {package.name}")
        _write_wrappers(tree, into, missing)
        tree.rename(into)
    for program in missing:
        found = find_server(program, into)
        if found is None or not os.access(found, os.X_OK):
            raise ServersUnavailable(
                f"Debian's package has no program {program}", str(into), "please report this"
            )


def find_server(program: str, into: Path) -> str | None:
    """Path of `program`: on PATH, in the folders where systems keep servers, or unpacked before."""
    return shutil.which(program) or shutil.which(
        program, path=os.pathsep.join((*SYSTEM_BIN, str(into / "bin")))
    )


def _download(packages: list[str], folder: Path) -> list[Path]:
    """The .deb files of `packages` and of whatever they need that this machine lacks."""
    for name in ("lists/partial", "cache/archives/partial", "debs"):
        (folder / name).mkdir(parents=True)
    # apt with folders of its own: needs no root and leaves the machine's package state alone.
    options = [
        "-o", f"Dir::State::Lists={folder / 'lists'}",
        "-o", f"Dir::Cache={folder / 'cache'}",
        "-o", "Debug::NoLocking=1",
        "-o", "APT::Sandbox::User=",
        "-o", "APT::Install-Recommends=0",
        "-o", "APT::Get::List-Cleanup=0",
    ]  # fmt: skip
    _run(["apt-get", *options, "--quiet=2", "update"], "reading the package archive's index")
    plan = _run(["apt-get", *options, "--simulate", "install", *packages], f"finding {', '.join(packages)}")
    names = packages_to_unpack(plan)
    _run(["apt-get", *options, "--quiet=2", "download", *names], "downloading", cwd=folder / "debs")
    return sorted((folder / "debs").glob("*.deb"))


def packages_to_unpack(plan: str) -> list[str]:
    """Names in the `Inst` lines of what `apt-get --simulate install` prints."""
    names = re.findall(r"^Inst (\S+) ", plan, re.MULTILINE)
    return [name for name in names if name.partition(":")[0] not in NEVER_UNPACKED]


def _write_wrappers(tree: Path, final: Path, missing: dict[str, str]) -> None:
    """bin/PROGRAM in `tree`, which will stand at `final`: the program with its own libraries first."""
    libraries = sorted({path.parent.relative_to(tree) for path in tree.rglob("*.so.*")})
    search = ":".join(str(final / folder) for folder in libraries)
    (tree / "bin").mkdir(exist_ok=True)
    for program in missing:
        for folder in UNPACKED_BIN:
            if (tree / folder / program).is_file():
                break
        else:
            continue
        real = final / folder / program
        lines = ["#!/bin/sh", f'exec {shlex.quote(str(real))} "$@"', ""]
        if search:
            lines.insert(
                1, f"export LD_LIBRARY_PATH={shlex.quote(search)}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
            )
        wrapper = tree / "bin" / program
        wrapper.write_text("\n".join(lines), encoding="utf-8")
        wrapper.chmod(0o755)


def _run(command: list[str], doing: str, cwd: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        result = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServersUnavailable(
            f"{doing} took longer than {APT_TIMEOUT_S} s", command[0], "check the network, then run it again"
        ) from None
    if result.returncode:
        raise ServersUnavailable(
            f"{doing} failed: {result.stderr.strip() or result.stdout.strip()}",
            shlex.join(command),
            f"install these packages by hand: {' '.join(sorted(set(SERVERS.values())))}",
        )
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())
