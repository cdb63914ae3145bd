"""Both formats of apt's sources, as machines have them."""

from pathlib import Path

from surge_cli.apt_sources import (
    ArchiveSource,
    candidate_mirrors,
    parse_deb822,
    parse_one_line,
    read_sources,
)

ONE_LINE = """
# comment
deb http://mirror.example/debian bookworm main contrib  # trailing
deb-src http://mirror.example/debian bookworm main
deb [ arch=amd64 signed-by=/x.gpg ] https://other.example/debian/ trixie main
deb http://mirror.example/flat ./
nonsense
"""

DEB822 = """Types: deb deb-src
# a comment inside a stanza
URIs: http://mirror.example/debian http://second.example/debian/
Suites: bookworm
 bookworm-updates
Components: main non-free-firmware
Signed-By: /x.gpg

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
"""


def test_one_line_entries() -> None:
    assert list(parse_one_line(ONE_LINE)) == [
        ArchiveSource("http://mirror.example/debian", "bookworm", ("main", "contrib")),
        ArchiveSource("https://other.example/debian", "trixie", ("main",)),
        ArchiveSource("http://mirror.example/flat", "./", ()),
    ]


def test_deb822_entries() -> None:
    components = ("main", "non-free-firmware")
    assert list(parse_deb822(DEB822)) == [
        ArchiveSource("http://mirror.example/debian", "bookworm", components),
        ArchiveSource("http://mirror.example/debian", "bookworm-updates", components),
        ArchiveSource("http://second.example/debian", "bookworm", components),
        ArchiveSource("http://second.example/debian", "bookworm-updates", components),
    ]


def test_mirrors_are_http_with_main_and_no_security_archive() -> None:
    def source(uri: str, suite: str = "bookworm", component: str = "main") -> ArchiveSource:
        return ArchiveSource(uri, suite, (component,))

    sources = [
        source("cdrom:[Debian]"),
        source("http://security.example/debian-security"),
        source("http://a.example/debian", suite="bookworm-security"),
        source("http://b.example/debian", suite="bullseye/updates"),
        source("http://c.example/debian", component="contrib"),
        source("file:/srv/debian"),
        source("https://d.example/debian"),
        source("http://e.example/debian"),
        source("https://d.example/debian", suite="bookworm-updates"),
    ]

    assert candidate_mirrors(sources) == ["https://d.example/debian", "http://e.example/debian"]


def test_files_are_read_in_apts_order_and_mirror_lists_followed(tmp_path: Path) -> None:
    mirrors = tmp_path / "mirrors.txt"
    mirrors.write_text("# near first\nhttp://near.example/debian/\tpriority:1\nhttp://far.example/debian\n")
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (tmp_path / "sources.list").write_text("deb http://first.example/debian bookworm main\n")
    (folder / "b.sources").write_text(
        f"Types: deb\nURIs: mirror+file:{mirrors}\nSuites: x\nComponents: main\n"
    )
    (folder / "a.list").write_text("deb http://second.example/debian bookworm main\n")
    (folder / "c.list.disabled").write_text("deb http://disabled.example/debian bookworm main\n")
    (folder / "d.list").write_bytes(b"\xff\xfe\x00 not text\n")

    assert candidate_mirrors(read_sources(tmp_path)) == [
        "http://first.example/debian",
        "http://second.example/debian",
        "http://near.example/debian",
        "http://far.example/debian",
    ]


def test_a_machine_without_apt_has_no_sources(tmp_path: Path) -> None:
    assert read_sources(tmp_path / "none") == []
