"""Whatever a package holds, nothing is written outside the target folder."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from surge_cli import deb
from surge_cli.deb import PackageError, unpack_deb

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> Member:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    return info, content


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info, b""


def device(name: str) -> Member:
    info = tarfile.TarInfo(name)
    info.type = tarfile.CHRTYPE
    return info, b""


def ar(*members: tuple[bytes, bytes]) -> bytes:
    body = b"!<arch>\n"
    for name, content in members:
        header = name.ljust(16) + b"0".ljust(12) + b"0".ljust(6) * 2 + b"100644".ljust(8)
        body += header + str(len(content)).encode().ljust(10) + b"`\n" + content + b"\n" * (len(content) % 2)
    return body


def package(*members: Member, compression: str = "xz") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    suffix = f".{compression}" if compression else ""
    control = (b"control.tar.xz", b"odd")
    return ar((b"debian-binary", b"2.0\n"), control, (f"data.tar{suffix}".encode(), data.getvalue()))


def unpack(body: bytes, target: Path, wanted: Callable[[str], bool] = lambda path: True) -> None:
    target.mkdir(exist_ok=True)
    unpack_deb(body, target, wanted)


@pytest.mark.parametrize("compression", ["xz", "gz", ""])
def test_wanted_files_and_links_come_out(tmp_path: Path, compression: str) -> None:
    body = package(
        file("./usr/bin/tool", b"program", mode=0o4755),
        file("./usr/lib/libx.so.1.2", b"library"),
        link("./usr/lib/libx.so.1", "libx.so.1.2"),
        file("./usr/share/doc/x", b"unwanted"),
        compression=compression,
    )

    unpack(body, tmp_path / "out", lambda path: not path.startswith("usr/share"))

    files = {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if not path.is_dir()
    }
    assert files == {"usr/bin/tool", "usr/lib/libx.so.1.2", "usr/lib/libx.so.1"}
    assert (tmp_path / "out/usr/bin/tool").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "out/usr/lib/libx.so.1").read_bytes() == b"library"


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([file("../evil")], id="parent"),
        pytest.param([file("usr/../../evil")], id="parent inside"),
        pytest.param([file("/evil")], id="absolute"),
        pytest.param([link("out", "../evil")], id="link to parent"),
        pytest.param([link("out", "/etc")], id="absolute link"),
        pytest.param([link("usr/out", "../../evil")], id="link to parent from below"),
        pytest.param([link("a", "."), link("a/b", "..")], id="link through a link"),
        pytest.param([link("c", "."), link("sub/x", "../c/..")], id="link by way of a link"),
        pytest.param([link("c", "."), file("c/x")], id="file through a link"),
        pytest.param([link("a", "b"), file("a")], id="file over a link"),
        pytest.param([file("a"), file("a")], id="file twice"),
        pytest.param([file("a"), link("b", "a", tarfile.LNKTYPE)], id="hard link"),
        pytest.param([device("null")], id="device"),
    ],
)
def test_what_leads_outside_or_is_no_file_is_refused(tmp_path: Path, members: list[Member]) -> None:
    with pytest.raises(PackageError):
        unpack(package(*members), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_package_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deb, "UNPACKED_BYTES_MAX", 1000)

    with pytest.raises(PackageError, match="more than 1000 bytes"):
        unpack(package(file("a", b"\0" * 600), file("b", b"\0" * 600)), tmp_path / "out")


def test_a_package_with_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb, "MEMBERS_MAX", 2)

    with pytest.raises(PackageError, match="more than 2 files"):
        unpack(package(file("a"), file("b"), file("c")), tmp_path / "out")


def test_a_package_cut_anywhere_is_a_package_error(tmp_path: Path) -> None:
    body = package(file("usr/bin/tool", b"program"))
    # The last bytes may be the padding after the last member.
    for length in range(len(body) - 1):
        with pytest.raises(PackageError):
            unpack(body[:length], tmp_path / str(length))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"PK\x03\x04",
        ar((b"debian-binary", b"2.0\n")),
        ar((b"data.tar.zst", b"x")),
        ar((b"data.tar.xz", b"no xz")),
    ],
)
def test_what_is_no_package_is_a_package_error(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(PackageError):
        unpack(body, tmp_path / "out")
