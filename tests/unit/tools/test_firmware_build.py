"""What goes into a board's image, and what becomes of an image that can't be made."""

import ast
import os
import subprocess
from pathlib import Path

import pytest

from surge_cli import firmware_build as subject
from surge_cli.firmware_build import BOARDS, HOST_MODULES, MAIN, build_firmware, sources
from surge_cli.micropython import Interpreter
from surge_cli.sources import firmware_folder
from surge_host.errors import UserError

MPY_VERSION = 6  # what MicroPython 1.23 and later load


def modules(folder: Path) -> set[str]:
    """Dotted names of what is in an image."""
    found = {path.relative_to(folder).with_suffix("") for path in folder.rglob("*.mpy")}
    return {".".join(path.parts).removesuffix(".__init__") for path in found}


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_compiles_to_bytecode_alone(board: str, tmp_path: Path) -> None:
    image = build_firmware(tmp_path / "image", board)
    assert image == tmp_path / "image"
    files = [path for path in image.rglob("*") if path.is_file()]
    assert [path for path in files if path.suffix != ".mpy"] == [image / MAIN]
    assert (image / MAIN).read_text() == (firmware_folder() / "boards" / board / MAIN).read_text()
    for path in files:
        if path.suffix == ".mpy":
            magic, version, flags = path.read_bytes()[:3]
            assert (magic, version) == (ord("M"), MPY_VERSION)
            assert flags >> 2 == 0, f"{path} has native code"
    assert {name.split(".")[1] for name in modules(image) if name.startswith("boards.")} == {board}
    assert os.listdir(tmp_path) == ["image"]


@pytest.mark.parametrize("board", BOARDS)
def test_an_image_has_all_that_it_imports_and_nothing_of_the_hosts(board: str, tmp_path: Path) -> None:
    here = modules(build_firmware(tmp_path / "image", board))
    assert not {f"surge_wire.{name}" for name in HOST_MODULES} & here
    for source, place in [*sources(board), (firmware_folder() / "boards" / board / MAIN, Path(MAIN))]:
        package = ".".join(place.parent.parts)
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.ImportFrom) or _is_for_types(source, node):
                continue
            base = f"{package}.{node.module}" if node.level else str(node.module)
            # cbor_cpython is tried for, and isn't there on boards
            if base.split(".")[0] in ("surge_wire", "surge_device", "boards") and "cbor_cpython" not in base:
                assert base in here, f"{source} imports {base}"


def _is_for_types(source: Path, wanted: ast.ImportFrom) -> bool:
    """Whether an import stands under TYPE_CHECKING, which no board runs."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return ast.dump(wanted) in map(ast.dump, node.body)
    return False


def test_the_image_runs_by_itself(micropython: Interpreter, tmp_path: Path) -> None:
    image = build_firmware(tmp_path / "image")
    done = subprocess.run(
        [*micropython.argv, str(image / MAIN), str(tmp_path / "device")],
        env={**os.environ, "MICROPYPATH": f".frozen:{image}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith("E start no identity at ")


def test_a_build_replaces_an_earlier_one_whole(tmp_path: Path) -> None:
    image = build_firmware(tmp_path / "new" / "image", "pico_w")
    (image / "surge_device" / "of_an_older_version.mpy").write_bytes(b"")
    build_firmware(image, "linux")
    assert "surge_device.of_an_older_version" not in modules(image)
    assert {name.split(".")[1] for name in modules(image) if name.startswith("boards.")} == {"linux"}


def test_what_is_no_firmware_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep me")
    with pytest.raises(UserError, match="no firmware to replace"):
        build_firmware(tmp_path / "letters")
    assert (tmp_path / "letters" / "dear.txt").read_text() == "keep me"


def test_a_source_that_does_not_compile_is_named_and_the_earlier_build_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = build_firmware(tmp_path / "image")
    before = modules(image)
    bad = tmp_path / "bad_driver.py"
    bad.write_text("def broken(:\n")
    good = sources("linux")
    monkeypatch.setattr(subject, "sources", lambda _board: [*good, (bad, Path("surge_device/bad_driver.py"))])
    with pytest.raises(UserError) as caught:
        build_firmware(image)
    assert caught.value.where == str(bad)
    assert "SyntaxError" in caught.value.remedy
    assert modules(image) == before
    with pytest.raises(UserError):
        build_firmware(tmp_path / "fresh")
    assert sorted(os.listdir(tmp_path)) == ["bad_driver.py", "image"]


def test_an_unknown_board_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        build_firmware(tmp_path / "image", "toaster")
    for board in BOARDS:
        assert board in caught.value.remedy
