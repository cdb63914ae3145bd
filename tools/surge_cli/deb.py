"""Unpacks chosen files of a Debian package (deb(5): an `ar` archive that holds `data.tar.xz`).

Place in the flow: after `surge_cli.debian_archive` checked the package's hash. Runs no script of the
package, sets no owner and no set-id bit.

Rules kept: nothing is written outside the target folder, whatever names and links the archive holds; only
regular files, folders and relative links come out; the sum of sizes is bounded.
"""

import io
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

UNPACKED_BYTES_MAX = 64 << 20
MEMBERS_MAX = 10_000

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60
_AR_HEADER_END = b"`\n"
_DATA_MEMBERS = (b"data.tar.xz", b"data.tar.gz", b"data.tar")


class PackageError(Exception):
    """The package is damaged, or holds what must not be unpacked."""


def unpack_deb(deb: bytes, target: Path, wanted: Callable[[str], bool]) -> None:
    """Write the package's files whose path (`usr/bin/x`) is wanted to `target`, an existing folder."""
    data = io.BytesIO(_data_member(deb))
    try:
        with tarfile.open(fileobj=data, mode="r:*") as archive:
            _unpack_tar(archive, target, wanted)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise PackageError(f"damaged package: {error}") from error


def _data_member(deb: bytes) -> bytes:
    """The `data.tar.*` member of an `ar` archive."""
    if not deb.startswith(_AR_MAGIC):
        raise PackageError("not a Debian package: it does not begin as an ar archive")
    offset = len(_AR_MAGIC)
    while offset + _AR_HEADER_BYTES <= len(deb):
        header = deb[offset : offset + _AR_HEADER_BYTES]
        size = header[48:58].strip()
        if header[58:] != _AR_HEADER_END or not size.isdigit():
            raise PackageError(f"damaged package: no ar header at byte {offset}")
        offset += _AR_HEADER_BYTES
        end = offset + int(size)
        if end > len(deb):
            raise PackageError(f"damaged package: a member ends at byte {end} of {len(deb)}")
        if header[:16].rstrip().removesuffix(b"/") in _DATA_MEMBERS:
            return deb[offset:end]
        offset = end + end % 2  # members begin at even offsets
    raise PackageError("damaged package: it has no data.tar that this program can read")


def _unpack_tar(archive: tarfile.TarFile, target: Path, wanted: Callable[[str], bool]) -> None:
    size_bytes = 0
    for count, member in enumerate(archive, start=1):
        if count > MEMBERS_MAX:
            raise PackageError(f"the package has more than {MEMBERS_MAX} files")
        name = _safe_name(member.name)
        if name == "." or member.isdir() or not wanted(name):
            continue
        size_bytes += member.size
        if size_bytes > UNPACKED_BYTES_MAX:
            raise PackageError(f"the package unpacks to more than {UNPACKED_BYTES_MAX} bytes")
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Nothing is written through an earlier link, so names alone tell where a file ends up.
        if path.parent.resolve() != target.resolve() / posixpath.dirname(name):
            raise PackageError(f"the package would write through a link: {member.name!r}")
        if path.is_symlink() or path.exists():
            raise PackageError(f"the package holds a file twice: {member.name!r}")
        if member.issym():
            _check_link(name, member.linkname)
            path.symlink_to(member.linkname)
        elif member.isreg():
            source = archive.extractfile(member)
            if source is None:
                raise PackageError(f"damaged package: no content for {member.name!r}")
            path.write_bytes(source.read())
            path.chmod(0o755 if member.mode & 0o100 else 0o644)
        else:
            raise PackageError(f"neither file nor folder nor link: {member.name!r}")


def _check_link(name: str, to: str) -> None:
    """PackageError unless the link `name` stays inside: up first, then down, and never above the top.

    A `..` after a name could step up from wherever a link of that name leads.
    """
    parts = [part for part in to.split("/") if part not in ("", ".")]
    down = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    if ".." in parts[down:]:
        raise PackageError(f"the package has a link that could lead outside its folder: {name!r} to {to!r}")
    _safe_name(posixpath.join(posixpath.dirname(name), to))


def _safe_name(name: str) -> str:
    """`name` without `./`; PackageError when it leads out of the folder."""
    clean = posixpath.normpath(name)
    if clean.startswith(("/", "../")) or clean == ".." or "\0" in clean:
        raise PackageError(f"the package would write outside its folder: {name!r}")
    return clean
