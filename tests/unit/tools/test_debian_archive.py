"""Nothing from an archive is believed that the keyring's owner did not sign.

data/ holds a tiny archive: an index, the same Release text signed by the key in keyring.gpg (InRelease), by a
key that is not in it (InRelease.foreign), and by both (InRelease.twice).
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from surge_cli import debian_archive
from surge_cli.debian_archive import (
    ArchiveError,
    CannotVerify,
    Package,
    fetch_package,
    fetch_url,
    find_packages,
    parse_packages,
    verify_release,
)

DATA = Path(__file__).parent / "data"
KEYRING = DATA / "keyring.gpg"
MIRROR = "http://mirror.example/debian"
PACKAGE_BYTES = b"not really a .deb\n"
RELEASE_URL = f"{MIRROR}/dists/trixie/InRelease"
INDEX_URL = f"{MIRROR}/dists/trixie/main/binary-amd64/Packages.xz"
PACKAGE_URL = f"{MIRROR}/pool/main/m/micropython/micropython_1.25.0+ds-1_amd64.deb"

Archive = dict[str, bytes]


@pytest.fixture
def archive() -> Archive:
    return {
        RELEASE_URL: (DATA / "InRelease").read_bytes(),
        INDEX_URL: (DATA / "Packages.xz").read_bytes(),
        PACKAGE_URL: PACKAGE_BYTES,
    }


@pytest.fixture(autouse=True)
def own_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_archive.verify_release, "__defaults__", ((KEYRING,),))


def fetch_from(archive: Archive) -> Callable[[str, int], bytes]:
    def fetch(url: str, size_bytes_max: int) -> bytes:
        if url not in archive:
            raise ArchiveError("the server answered 404", url)
        if len(archive[url]) > size_bytes_max:
            raise ArchiveError("too large", url)
        return archive[url]

    return fetch


def find(
    archive: Archive, release: str = "trixie", names: tuple[str, ...] = ("micropython",)
) -> list[Package]:
    return find_packages(MIRROR, release, "amd64", names, fetch=fetch_from(archive))


def test_a_signed_archive_gives_the_package(archive: Archive) -> None:
    (package,) = find(archive)

    assert (package.name, package.version, package.size_bytes) == ("micropython", "1.25.0+ds-1", 18)
    assert fetch_package(MIRROR, package, fetch=fetch_from(archive)) == PACKAGE_BYTES


def test_one_known_signature_among_unknown_ones_is_enough(archive: Archive) -> None:
    archive[RELEASE_URL] = (DATA / "InRelease.twice").read_bytes()

    assert len(find(archive)) == 1


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda signed: signed.replace(b"Suite: stable", b"Suite: Stable"), id="text changed"),
        pytest.param(lambda signed: (DATA / "InRelease.foreign").read_bytes(), id="foreign key"),
        pytest.param(lambda signed: signed[: signed.index(b"-----BEGIN PGP SIG")], id="signature cut off"),
        pytest.param(lambda signed: re.sub(rb"-----[^\n]*\n", b"", signed), id="not signed at all"),
        pytest.param(lambda signed: b"", id="empty"),
    ],
)
def test_a_release_with_a_wrong_signature_is_refused(
    archive: Archive, tamper: Callable[[bytes], bytes]
) -> None:
    archive[RELEASE_URL] = tamper(archive[RELEASE_URL])

    with pytest.raises(ArchiveError, match="not signed by Debian"):
        find(archive)


def test_text_around_the_signed_part_is_not_believed() -> None:
    signed = (DATA / "InRelease").read_bytes()
    forged = b"Codename: forged\nSHA256:\n " + b"a" * 64 + b" 5 main/binary-amd64/Packages.xz\n\n" + signed

    try:
        text = verify_release(forged, "here")
    except ArchiveError:
        return  # refusing it altogether is right as well
    assert "forged" not in text


def test_another_release_is_refused_though_it_is_signed(archive: Archive) -> None:
    moved = {url.replace("/trixie/", "/sid/"): body for url, body in archive.items()}

    with pytest.raises(ArchiveError, match="not the index of Debian's release sid"):
        find(moved, release="sid")


def test_an_index_with_a_wrong_hash_is_refused(archive: Archive) -> None:
    index = bytearray(archive[INDEX_URL])
    index[-20] ^= 1
    archive[INDEX_URL] = bytes(index)

    with pytest.raises(ArchiveError, match=r"SHA-256 is [0-9a-f]{64}, but"):
        find(archive)


def test_an_index_larger_than_signed_is_refused(archive: Archive) -> None:
    archive[INDEX_URL] += b"\0" * 4

    with pytest.raises(ArchiveError, match="too large"):
        find(archive)


def test_a_package_with_a_wrong_hash_is_refused(archive: Archive) -> None:
    (package,) = find(archive)
    archive[PACKAGE_URL] = PACKAGE_BYTES.replace(b"really", b"REALLY")

    with pytest.raises(ArchiveError, match=r"SHA-256 is [0-9a-f]{64}, but"):
        fetch_package(MIRROR, package, fetch=fetch_from(archive))


def test_a_package_that_claims_to_be_huge_is_not_fetched() -> None:
    package = Package("x", "1", "pool/x.deb", debian_archive.PACKAGE_BYTES_MAX + 1, "0" * 64)

    with pytest.raises(ArchiveError, match="larger than"):
        fetch_package(MIRROR, package, fetch=fetch_from({}))


def test_a_missing_package_is_named(archive: Archive) -> None:
    with pytest.raises(ArchiveError, match="no package libffi8"):
        find(archive, names=("micropython", "libffi8"))


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "pool/../../x.deb", "http://x.example/x.deb", "pool/a b.deb"]
)
def test_a_strange_path_is_refused(path: str) -> None:
    text = f"Package: x\nVersion: 1\nFilename: {path}\nSize: 1\nSHA256: {'0' * 64}\n"

    with pytest.raises(ArchiveError, match="strange path"):
        parse_packages(text, ["x"], "here")


def test_without_a_keyring_nothing_can_be_verified(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(CannotVerify, match="keyring"):
        verify_release(archive[RELEASE_URL], "here", keyrings=(tmp_path / "none.gpg",))


def test_without_gpgv_nothing_can_be_verified(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(CannotVerify, match="gpgv"):
        find(archive)


def test_unverified_on_request_still_checks_hashes(archive: Archive) -> None:
    archive[RELEASE_URL] = (DATA / "InRelease.foreign").read_bytes()
    fetch = fetch_from(archive)

    assert len(find_packages(MIRROR, "trixie", "amd64", ["micropython"], fetch=fetch, verify=False)) == 1
    archive[INDEX_URL] = archive[INDEX_URL][:-1] + b"\1"
    with pytest.raises(ArchiveError, match="SHA-256"):
        find_packages(MIRROR, "trixie", "amd64", ["micropython"], fetch=fetch, verify=False)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://x.example/", "/etc/passwd", "http://127.0.0.1:1/x"]
)
def test_an_address_that_cannot_be_fetched_is_an_archive_error(url: str) -> None:
    with pytest.raises(ArchiveError, match=r"fetched|not an http address"):
        fetch_url(url, 10)
