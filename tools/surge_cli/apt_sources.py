"""Reads which package archives this machine is set up to use, so that Surge asks no other.

Place in the flow: `surge_cli.micropython` takes the mirror from here. Does not fetch, and does not judge an
archive: whoever fetches checks signatures. Both of apt's formats are read (sources.list(5)), one-line
`deb ...` entries and deb822 stanzas, and `mirror+file:` lists, which cloud images use.

Rule kept: order is apt's own (sources.list, then sources.list.d by name); what can't be understood is
passed over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

APT_FOLDER = Path("/etc/apt")
SOURCES_FILE_BYTES_MAX = 1 << 20  # a longer file is no list of sources: it is passed over

_ONE_LINE = re.compile(
    r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>.*)$"
)


@dataclass(frozen=True)
class ArchiveSource:
    """One archive, one suite, as apt would use it."""

    uri: str  # without a slash at the end
    suite: str
    components: tuple[str, ...]


def parse_one_line(text: str) -> Iterator[ArchiveSource]:
    """Entries of a `.list` file, in order."""
    for line in text.splitlines():
        match = _ONE_LINE.match(line.partition("#")[0].strip())
        if match:
            components = tuple(match["components"].split())
            yield ArchiveSource(match["uri"].rstrip("/"), match["suite"], components)


def parse_deb822(text: str) -> Iterator[ArchiveSource]:
    """Entries of a `.sources` file, in order: one for each URI and suite of each enabled `deb` stanza."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n[ \t]*\n", "\n".join(lines)):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in (
            "no",
            "false",
        ):
            continue
        components = tuple(fields.get("components", "").split())
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield ArchiveSource(uri.rstrip("/"), suite, components)


def _fields(stanza: str) -> dict[str, str]:
    """Field name in lower case -> value, folded lines joined by spaces."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line[:1].isspace():
            if name:
                fields[name] += " " + line.strip()
        elif ":" in line:
            key, _, value = line.partition(":")
            name = key.strip().lower()
            fields[name] = value.strip()
    return fields


def read_sources(apt_folder: Path = APT_FOLDER) -> list[ArchiveSource]:
    """Every entry of this machine's apt sources, in apt's order; none where there is no apt."""
    sources = list(parse_one_line(_text_of(apt_folder / "sources.list")))
    folder = apt_folder / "sources.list.d"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix == ".list":
            sources += parse_one_line(_text_of(path))
        elif path.suffix == ".sources":
            sources += parse_deb822(_text_of(path))
    return sources


def candidate_mirrors(sources: list[ArchiveSource]) -> list[str]:
    """Base URIs worth asking for a Debian package, best first: http(s), with `main`, no security archive."""
    mirrors: list[str] = []
    for source in sources:
        if "main" not in source.components or _is_security(source):
            continue
        for uri in _expand(source.uri):
            if urlsplit(uri).scheme in ("http", "https") and uri not in mirrors:
                mirrors.append(uri)
    return mirrors


def _is_security(source: ArchiveSource) -> bool:
    suite_is = source.suite.endswith(("-security", "/updates"))
    return suite_is or urlsplit(source.uri).path.rstrip("/").endswith("-security")


def _expand(uri: str) -> list[str]:
    """The URIs behind `mirror+file:` (apt-transport-mirror(1): one each line, then optional metadata)."""
    if not uri.startswith("mirror+file:"):
        return [uri]
    lines = _text_of(Path(urlsplit(uri.removeprefix("mirror+")).path)).splitlines()
    return [line.split()[0].rstrip("/") for line in lines if line.strip() and not line.startswith("#")]


def _text_of(path: Path) -> str:
    """The file's text; empty where there is no file that could be meant."""
    try:
        if path.stat().st_size > SOURCES_FILE_BYTES_MAX:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
