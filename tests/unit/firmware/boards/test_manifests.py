"""The freeze manifests: what each board's image takes in is there, and is all that the board needs."""

import ast
from pathlib import Path

import pytest

from surge_cli.sources import firmware_folder

FIRMWARE = firmware_folder()
PROTOCOL = FIRMWARE.parent / "protocol"

BOARDS = ("linux", "esp32", "pico_w")


class Manifest:
    """MicroPython's manifest language, as far as ours use it (tools/manifestfile.py of MicroPython)."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.included: list[str] = []
        self.files: set[Path] = set()
        names = {"include": self.included.append, "package": self.package, "module": self.module}
        exec(compile(path.read_text(), str(path), "exec"), names)

    def module(self, name: str) -> None:
        file = self.folder / name
        assert file.is_file()
        self.files.add(file)

    def package(self, name: str, files: tuple[str, ...] | None = None, base_path: str = ".") -> None:
        folder = (self.folder / base_path / name).resolve()
        found = [folder / file for file in files] if files else sorted(folder.rglob("*.py"))
        assert found
        for file in found:
            assert file.is_file(), f"{file} is frozen but isn't there"
            self.files.add(file)


def imported(file: Path) -> set[str]:
    """Modules of ours that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("surge_wire", "surge_device", "boards")}


@pytest.mark.parametrize("board", BOARDS)
def test_everything_a_board_imports_is_frozen(board: str) -> None:
    manifest = Manifest(FIRMWARE / "boards" / board / "manifest.py")
    assert len(manifest.included) == 1
    assert manifest.included[0].startswith("$(PORT_DIR)/")
    for file in manifest.files:
        for name in imported(file):
            root = PROTOCOL if name.startswith("surge_wire") else FIRMWARE
            path = root / name.replace(".", "/")
            frozen = {path.with_suffix(".py"), path / "__init__.py"} & manifest.files
            assert frozen, f"{file} imports {name}"


@pytest.mark.parametrize("board", BOARDS)
def test_no_other_board_is_frozen(board: str) -> None:
    files = Manifest(FIRMWARE / "boards" / board / "manifest.py").files
    others = {other for other in BOARDS if other != board}
    assert not {file for file in files if file.parent.name in others}
    assert {FIRMWARE / "boards" / board / name for name in ("board.py", "main.py")} <= files
