"""What the pages say exists does exist, and what is committed names no registry and no machine's folders."""

import argparse
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from surge_cli.main import SUB_COMMANDS, find_sub_command, load_sub_command

REPOSITORY = Path(__file__).resolve().parents[3]

# Host names are put together here, so that this file passes its own test. `(?<![\w.-])` begins a host name.
_PYTHON_HOSTS = r"(?:files\.)?python" + r"hosted\.org|(?:test\.)?py" + r"pi\.(?:org|python\.org)"
_OTHER_HOSTS = (
    r"registry\.npm"
    + r"js\.org|proxy\.golang"
    + r"\.org|(?:index\.)?crates"
    + r"\.io|registry-1\.dock"
    + r"er\.io"
)
_DEBIAN_HOSTS = r"(?:deb|ftp|security|snapshot)(?:\.\w\w)?\.deb" + r"ian\.org|archive\.ubun" + r"tu\.com"
REGISTRY_HOST = re.compile(rf"(?<![\w.-])(?:{_PYTHON_HOSTS}|{_OTHER_HOSTS}|{_DEBIAN_HOSTS})", re.IGNORECASE)
# A folder on somebody's machine. /tmp, /var, /etc and /usr mean the same everywhere.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$)}/-])/(?:ho" + r"me|ro" + r"ot|wo" + r"rk|Us" + r"ers|op" + r"t)/[\w.-]+"
)

MAKE_TARGET = re.compile(r"(?<![\w-])make ([a-z][a-z-]*)")
SURGE_COMMAND = re.compile(r"(?<![\w./-])surge ([a-z][a-z-]*)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
GENERATED = re.compile(r"(^|/)(\.(?!ci/|git(hub|ignore))[^/]*|__pycache__|build|dist|[^/]*\.egg-info)(/|$)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


@cache
def tracked_files() -> tuple[Path, ...]:
    """Committed files, and new ones that git would not ignore; without git, what looks like those."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):  # no git, or an unpacked archive
        paths = [path for path in REPOSITORY.rglob("*") if not GENERATED.search(name_of(path))]
    else:
        paths = [REPOSITORY / name for name in listed.split("\0") if name]
    return tuple(sorted(path for path in paths if path.is_file()))


def pages() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".md"]


def code_in(page: Path) -> Iterator[str]:
    """Code blocks and code spans: prose may say `make sure` without meaning a command."""
    yield from CODE.findall(page.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def text_files() -> Iterator[tuple[Path, str]]:
    for path in tracked_files():
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def test_there_are_pages_to_check() -> None:
    assert {"CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} <= {name_of(page) for page in pages()}


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    named = {
        (name_of(page), target)
        for page in pages()
        for code in code_in(page)
        for target in MAKE_TARGET.findall(code)
    }

    assert named, "no page names a make target: the pattern must be wrong"
    assert [(page, target) for page, target in sorted(named) if target not in targets] == []


def test_every_make_target_is_explained_by_make_help() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    explained = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))

    assert phony is not None
    assert set(phony[1].split()) == explained


def test_every_surge_command_that_is_named_exists() -> None:
    commands = {command.name for command in SUB_COMMANDS}
    named = {
        (name_of(page), name)
        for page in pages()
        for code in code_in(page)
        for name in SURGE_COMMAND.findall(code)
    }

    assert [(page, name) for page, name in sorted(named) if name not in commands] == []


def command_lines(page: Path) -> list[list[str]]:
    """The lines of a page's indented and fenced blocks that are a whole `surge` command."""
    lines = re.findall(r"^(?: {4}|\$ )?(surge .*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_every_surge_command_line_parses() -> None:
    wrong = []
    for page in pages():
        for _surge, name, *arguments in command_lines(page):
            module = load_sub_command(find_sub_command(name))
            parser = argparse.ArgumentParser(prog=f"surge {name}")
            module.add_arguments(parser)
            try:
                parser.parse_args(arguments)
            except SystemExit:
                wrong.append((name_of(page), name, arguments))

    assert wrong == []
    assert len(command_lines(REPOSITORY / "README.md")) >= 6, "the pattern must be wrong"


def test_every_tool_that_is_named_exists() -> None:
    named = {
        (name_of(page), tool)
        for page in [*pages(), REPOSITORY / "Makefile", REPOSITORY / ".ci" / "run"]
        for tool in re.findall(
            r"\b(?:tools|tests/bench)/[\w/]+\.(?:py|sh)\b", page.read_text(encoding="utf-8")
        )
    }

    assert named
    assert [(page, tool) for page, tool in sorted(named) if not (REPOSITORY / tool).is_file()] == []


def test_relative_links_lead_somewhere() -> None:
    broken = []
    for page in pages():
        text = CODE.sub("", page.read_text(encoding="utf-8"))
        for target in LINK.findall(text):
            if re.match(r"[a-z][a-z0-9+.-]*:|#", target):
                continue
            if not (page.parent / target.partition("#")[0]).exists():
                broken.append((name_of(page), target))

    assert broken == []


@pytest.mark.parametrize("pattern", [REGISTRY_HOST, MACHINE_PATH], ids=["registry host", "machine path"])
def test_no_committed_file_names_one(pattern: re.Pattern[str]) -> None:
    found = [(name_of(path), match[0]) for path, text in text_files() for match in pattern.finditer(text)]

    assert found == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (REGISTRY_HOST, "https://py" + "pi.org/simple"),
        (REGISTRY_HOST, "URIs: http://deb.deb" + "ian.org/debian"),
        (MACHINE_PATH, "open('/ho" + "me/someone/surge')"),
    ],
)
def test_the_patterns_find_what_they_should(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


def test_threats_that_tests_carry_are_in_the_table_and_the_other_way_round() -> None:
    table = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", table, re.MULTILINE))
    carried = {
        number
        for path in tracked_files()
        if path.suffix == ".py" and path.is_relative_to(REPOSITORY / "tests")
        for numbers in re.findall(r"mark\.threat\(([\d, ]+)\)", path.read_text(encoding="utf-8"))
        for number in re.findall(r"\d+", numbers)
    }

    assert set(rows.values()) <= {"yes", "–", "not built yet"}
    assert {number for number, tested in rows.items() if tested == "yes"} == carried


def test_locks_are_pinned_hashed_and_name_no_place() -> None:
    locks = sorted((REPOSITORY / "requirements").glob("*.txt"))
    assert locks
    for lock in locks:
        entries = lock.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        for entry in entries:
            assert re.match(
                r"[a-z0-9][a-z0-9._-]*==[^\s]+( ; [^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+$", entry
            ), entry


def test_everything_the_demo_uses_is_what_the_tests_ran_with() -> None:
    def pins(name: str) -> set[str]:
        text = (REPOSITORY / "requirements" / name).read_text(encoding="utf-8")
        return set(re.findall(r"^([a-z0-9][^\s;]*==[^\s;]+)", text, re.MULTILINE))

    assert pins("demo.txt")
    assert pins("demo.txt") <= pins("dev.txt")
