"""Finds a MicroPython (unix port) that can run the firmware, and fetches Debian's where there is none.

Place in the flow: `surge demo`, `surge device`, `surge micropython` and the tests start the firmware
through the `Interpreter` that this gives. Does not run the firmware and does not set MICROPYPATH
(`surge_cli.sources` knows it).

Order: SURGE_MICROPYTHON (a command line; if it is set it is used or it is an error), `micropython` on PATH,
the cache folder, Debian 13's package. The package's program runs with the C library and loader that come
with it, so it works on any Linux with that processor.

Rules kept: every interpreter is tried before it is given out; what is fetched is checked against Debian's
signature; a folder appears in the cache complete or not at all, also with several callers at once.
"""

import fcntl
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from surge_cli.apt_sources import candidate_mirrors, read_sources
from surge_cli.deb import PackageError, unpack_deb
from surge_cli.debian_archive import ArchiveError, CannotVerify, fetch_package, find_packages
from surge_host.errors import UserError

VERSION_MIN = (1, 24)
PROBE_TIMEOUT_S = 30
RELEASE = "trixie"
PACKAGES = ("micropython", "libc6", "libffi8", "libmbedcrypto16", "libmbedtls21", "libmbedx509-7")

ENV_COMMAND = "SURGE_MICROPYTHON"
ENV_MIRROR = "SURGE_DEBIAN_MIRROR"
ENV_ALLOW_UNVERIFIED = "SURGE_ALLOW_UNVERIFIED"

Source = Literal["PATH", "Debian package", "SURGE_MICROPYTHON"]
Tell = Callable[[str], None]

_REMEDY = f"install micropython 1.24 or newer (Debian 13 has it in apt), or name one in {ENV_COMMAND}"
_PROBE = """
import sys, asyncio, hashlib, socket, ffi
hashlib.sha256
print("surge-probe", *sys.implementation[1][:3])
"""


@dataclass(frozen=True)
class Interpreter:
    """How to start MicroPython: `argv` and then its arguments."""

    argv: tuple[str, ...]
    version: str
    source: Source


@dataclass(frozen=True)
class _Architecture:
    debian: str
    libraries: str
    loader: str


_ARCHITECTURES = {
    "x86_64": _Architecture("amd64", "usr/lib/x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "aarch64": _Architecture("arm64", "usr/lib/aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}


class MicroPythonUnavailable(UserError):
    """No MicroPython that can run the firmware is here or can be had."""


def _tell_on_stderr(message: str) -> None:
    print(f"surge: {message}", file=sys.stderr, flush=True)


def default_cache_dir() -> Path:
    """The platform's cache folder for Surge (XDG_CACHE_HOME, or ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "surge"


def find_micropython(cache_dir: Path | None = None, *, tell: Tell = _tell_on_stderr) -> Interpreter:
    """A MicroPython that works; MicroPythonUnavailable otherwise.

    May take a download of about 14 MB (most of it the archive's index), which `tell` is told about.
    """
    command = os.environ.get(ENV_COMMAND)
    if command:
        argv = tuple(shlex.split(command))
        try:
            return Interpreter(argv, probe(argv), "SURGE_MICROPYTHON")
        except ProbeFailed as error:
            raise MicroPythonUnavailable(
                str(error), f"{ENV_COMMAND}={command}", f"correct {ENV_COMMAND}"
            ) from None
    on_path = shutil.which("micropython")
    if on_path:
        try:
            return Interpreter((on_path,), probe((on_path,)), "PATH")
        except ProbeFailed as error:
            tell(f"{on_path} is not used: {error}")
    cache = (cache_dir or default_cache_dir()).absolute()
    argv = _from_debian(cache, tell)
    return Interpreter(argv, probe(argv), "Debian package")


class ProbeFailed(Exception):
    """The interpreter does not start, is too old, or lacks a module; str() says which."""


def probe(argv: tuple[str, ...]) -> str:
    """The interpreter's version, after it showed that it has what the firmware needs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MICROPY")}
    try:
        result = subprocess.run(
            [*argv, "-c", _PROBE],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ProbeFailed(f"it does not start: {error}") from error
    match = re.search(r"^surge-probe (\d+) (\d+) (\d+)$", result.stdout, re.MULTILINE)
    if result.returncode or not match:
        last = (
            result.stderr.strip() or result.stdout.strip() or f"exit code {result.returncode}"
        ).splitlines()[-1]
        raise ProbeFailed(f"it can't run the firmware: {last}")
    if (int(match[1]), int(match[2])) < VERSION_MIN:
        raise ProbeFailed(
            f"it is {match[1]}.{match[2]}; {VERSION_MIN[0]}.{VERSION_MIN[1]} or newer is needed"
        )
    return ".".join(match.groups())


def _from_debian(cache: Path, tell: Tell) -> tuple[str, ...]:
    """argv of the unpacked package in `cache`, fetched first if it is not there."""
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None or sys.platform != "linux":
        raise MicroPythonUnavailable(
            "there is no micropython on PATH, and no package to fetch for this system",
            f"{sys.platform} on {platform.machine()}",
            _REMEDY,
        )
    if ":" in str(cache):
        # The loader's --library-path is a list that colons separate.
        raise MicroPythonUnavailable(
            "the cache folder has a colon in its name", str(cache), "set XDG_CACHE_HOME"
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "micropython.lock"):
            return _cached(cache, architecture) or _fetch(cache, architecture, tell)
    except OSError as error:
        raise MicroPythonUnavailable(
            f"the cache folder can't be written: {error.strerror}",
            str(error.filename or cache),
            "set XDG_CACHE_HOME",
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the system takes the lock back from one that dies."""
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _cached(cache: Path, architecture: _Architecture) -> tuple[str, ...] | None:
    """argv of a cached interpreter that works; those that don't are removed."""
    for folder in sorted(cache.glob(f"micropython-*-{architecture.debian}"), reverse=True):
        argv = _argv(folder, architecture)
        try:
            probe(argv)
        except ProbeFailed:
            shutil.rmtree(folder)
        else:
            return argv
    return None


def _fetch(cache: Path, architecture: _Architecture, tell: Tell) -> tuple[str, ...]:
    mirror_set = os.environ.get(ENV_MIRROR, "").rstrip("/")
    mirrors = [mirror_set] if mirror_set else candidate_mirrors(read_sources())
    verify = os.environ.get(ENV_ALLOW_UNVERIFIED) != "1"
    failures: list[str] = []
    for mirror in mirrors:
        try:
            return _fetch_from(mirror, cache, architecture, verify, tell)
        except CannotVerify as error:
            raise MicroPythonUnavailable(
                f"MicroPython could be fetched, but {error.what}",
                error.where,
                f"install gpgv and debian-archive-keyring; or {_REMEDY}; "
                f"or accept it unchecked: {ENV_ALLOW_UNVERIFIED}=1",
            ) from error
        except (ArchiveError, PackageError) as error:
            failures.append(f"{mirror}: {error}")
    where = "; ".join(failures) or "this machine's apt sources name no Debian archive"
    raise MicroPythonUnavailable(
        "there is no micropython on PATH, and Debian's package can't be fetched",
        where,
        f"{_REMEDY}, or name a Debian mirror in {ENV_MIRROR}",
    )


def _fetch_from(
    mirror: str, cache: Path, architecture: _Architecture, verify: bool, tell: Tell
) -> tuple[str, ...]:
    tell(f"fetching MicroPython, Debian's package, from {mirror}")
    if not verify:
        tell(f"{ENV_ALLOW_UNVERIFIED}=1: Debian's signature is NOT checked")
    packages = find_packages(mirror, RELEASE, architecture.debian, PACKAGES, verify=verify)
    version = re.sub(r"[^A-Za-z0-9.+~-]", "_", packages[0].version)
    folder = cache / f"micropython-{version}-{architecture.debian}"
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=cache) as temporary:
        tree = Path(temporary, "tree")
        tree.mkdir()
        for package in packages:
            unpack_deb(fetch_package(mirror, package), tree, lambda path: _is_wanted(path, architecture))
        try:
            probe(_argv(tree, architecture))
        except ProbeFailed as error:
            raise PackageError(f"what was unpacked does not work: {error}") from error
        tree.rename(folder)
    tell(f"MicroPython {version} is in {folder}")
    return _argv(folder, architecture)


def _is_wanted(path: str, architecture: _Architecture) -> bool:
    """The program, the shared libraries, and the licences that go with them."""
    folder, _, name = path.rpartition("/")
    if folder == architecture.libraries:
        return ".so" in name
    return path == "usr/bin/micropython" or (path.startswith("usr/share/doc/") and name == "copyright")


def _argv(folder: Path, architecture: _Architecture) -> tuple[str, ...]:
    libraries = folder / architecture.libraries
    return (
        str(libraries / architecture.loader),
        "--library-path",
        str(libraries),
        str(folder / "usr/bin/micropython"),
    )
