"""Fetches packages from a Debian archive, believing nothing that is not signed by Debian.

Place in the flow: `surge_cli.micropython` asks for a few packages; `surge_cli.deb` unpacks them. Does not
install and does not resolve dependencies.

The chain, as in apt-secure(8): Debian's keyring signs InRelease; InRelease names the SHA-256 of
Packages.xz; that names the SHA-256 of each .deb. Freshness is not checked (mirrors that hold a snapshot are
in order), so a mirror could hand out an older state of the same release, but nothing that Debian did not
publish.

Rules kept: only what gpgv gave out as signed is parsed, never the file around it; every size has a bound,
checked before the bytes are kept.
"""

import hashlib
import http.client
import lzma
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

FETCH_TIMEOUT_S = 60
RELEASE_BYTES_MAX = 1 << 20
INDEX_BYTES_MAX = 64 << 20  # Packages.xz of a whole release is about 10 MB
INDEX_TEXT_BYTES_MAX = 512 << 20  # and about 60 MB of text
PACKAGE_BYTES_MAX = 32 << 20
CHUNK_BYTES = 1 << 20

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)


class ArchiveError(Exception):
    """The archive can't be reached, or what it gave must not be believed. `what` and `where` say which."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} ({where})")
        self.what = what
        self.where = where


class CannotVerify(ArchiveError):
    """This machine has no means to check Debian's signature."""


@dataclass(frozen=True)
class Package:
    """One entry of a Packages index."""

    name: str
    version: str
    path: str  # below the archive's base URI
    size_bytes: int
    sha256: str


Fetch = Callable[[str, int], bytes]
"""(url, size_bytes_max) -> the bytes; ArchiveError otherwise."""


def fetch_url(url: str, size_bytes_max: int) -> bytes:
    """GET `url` (proxies as the environment says), at most `size_bytes_max` bytes."""
    if not url.startswith(("http://", "https://")):
        raise ArchiveError("not an http address", url)
    body = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as response:
            while chunk := response.read(min(CHUNK_BYTES, size_bytes_max + 1 - len(body))):
                body += chunk
                if len(body) > size_bytes_max:
                    raise ArchiveError(f"larger than {size_bytes_max} bytes", url)
    except urllib.error.HTTPError as error:
        raise ArchiveError(f"the server answered {error.code} {error.reason}", url) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ArchiveError(f"can't be fetched: {error}", url) from error
    return bytes(body)


def find_packages(
    mirror: str,
    release: str,
    architecture: str,
    names: Collection[str],
    *,
    fetch: Fetch = fetch_url,
    verify: bool = True,
) -> list[Package]:
    """The `names` in the archive's `main` component, in the order of `names`.

    With verify=False Debian's signature goes unchecked: the hashes still are, but against an index that
    anyone on the way could have written. ArchiveError, CannotVerify.
    """
    address = f"{mirror}/dists/{release}/InRelease"
    signed = fetch(address, RELEASE_BYTES_MAX)
    text = verify_release(signed, address) if verify else signed.decode("utf-8", "replace")
    if not re.search(rf"^Codename: {re.escape(release)}$", text, re.MULTILINE):
        raise ArchiveError(f"this is not the index of Debian's release {release}", address)
    path = f"main/binary-{architecture}/Packages.xz"
    digest, size_bytes = _entry_of_release(text, path, address)
    index_address = f"{mirror}/dists/{release}/{path}"
    index = fetch(index_address, min(size_bytes, INDEX_BYTES_MAX))
    check_sha256(index, digest, index_address)
    return parse_packages(_decompress(index, index_address), names, index_address)


def fetch_package(mirror: str, package: Package, *, fetch: Fetch = fetch_url) -> bytes:
    """The .deb file, checked against its size and SHA-256."""
    address = f"{mirror}/{package.path}"
    if package.size_bytes > PACKAGE_BYTES_MAX:
        raise ArchiveError(f"the package is larger than {PACKAGE_BYTES_MAX} bytes", address)
    body = fetch(address, package.size_bytes)
    check_sha256(body, package.sha256, address)
    return body


def check_sha256(body: bytes, expected: str, where: str) -> None:
    """ArchiveError unless `body` has the SHA-256 `expected` (hex)."""
    found = hashlib.sha256(body).hexdigest()
    if found != expected.lower():
        raise ArchiveError(f"SHA-256 is {found}, but {expected} was signed", where)


def verify_release(signed: bytes, where: str, keyrings: Collection[Path] = KEYRINGS) -> str:
    """The part of an InRelease file that Debian signed.

    CannotVerify without gpgv or a keyring, ArchiveError if it is not signed.
    """
    keyring = next((path for path in keyrings if path.is_file()), None)
    if shutil.which("gpgv") is None:
        raise CannotVerify("Debian's signature can't be checked: gpgv is not here", where)
    if keyring is None:
        raise CannotVerify("Debian's signature can't be checked: its keyring is not here", where)
    with tempfile.TemporaryDirectory(prefix="surge-release-") as temporary:
        given, text = Path(temporary, "InRelease"), Path(temporary, "Release")
        given.write_bytes(signed)
        result = subprocess.run(
            ["gpgv", "--status-fd", "1", "--keyring", str(keyring), "--output", str(text), str(given)],
            capture_output=True,
            timeout=FETCH_TIMEOUT_S,
            check=False,
        )
        # Several keys sign InRelease, and gpgv's exit code is an error when the keyring lacks one of them, as
        # older keyrings do. As apt does: one good signature is needed, and none may be bad.
        states = re.findall(rb"^\[GNUPG:\] ([A-Z]+)", result.stdout, re.MULTILINE)
        if b"GOODSIG" not in states or b"BADSIG" in states or not text.is_file():
            raise ArchiveError("this is not signed by Debian", where)
        return text.read_text(encoding="utf-8", errors="replace")


def _entry_of_release(text: str, path: str, where: str) -> tuple[str, int]:
    """(SHA-256, size in bytes) that a Release file gives for `path`."""
    section = re.search(r"^SHA256:[ \t]*\n((?:[ \t]+\S.*(?:\n|$))+)", text, re.MULTILINE)
    for line in section[1].splitlines() if section else []:
        words = line.split()
        if len(words) == 3 and words[2] == path and words[1].isdecimal():
            return words[0], int(words[1])
    raise ArchiveError(f"the release has no {path}", where)


def _decompress(index: bytes, where: str) -> str:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=INDEX_TEXT_BYTES_MAX)
    try:
        text = decompressor.decompress(index, max_length=INDEX_TEXT_BYTES_MAX)
    except lzma.LZMAError as error:
        raise ArchiveError(f"damaged index: {error}", where) from error
    if not decompressor.eof:
        raise ArchiveError(f"the index is cut off, or more than {INDEX_TEXT_BYTES_MAX} bytes of text", where)
    return text.decode("utf-8", "replace")


def parse_packages(text: str, names: Collection[str], where: str) -> list[Package]:
    """The entries for `names`, in that order; ArchiveError when one is missing or makes no sense."""
    found: dict[str, Package] = {}
    for stanza in text.split("\n\n"):
        # Most of 70,000 stanzas are not ours: look at the first line before taking one apart.
        name = stanza.lstrip("\n").partition("\n")[0].removeprefix("Package: ")
        if name not in names or name in found:
            continue
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, re.MULTILINE))
        try:
            package = Package(
                name, fields["Version"], fields["Filename"], int(fields["Size"]), fields["SHA256"].lower()
            )
        except (KeyError, ValueError) as error:
            raise ArchiveError(f"the entry of {name} is incomplete: {error}", where) from error
        if not re.fullmatch(r"pool/[A-Za-z0-9.+~_/-]+\.deb", package.path) or ".." in package.path:
            raise ArchiveError(f"the entry of {name} has a strange path: {package.path!r}", where)
        found[name] = package
    for name in names:
        if name not in found:
            raise ArchiveError(f"the release has no package {name}", where)
    return [found[name] for name in names]
