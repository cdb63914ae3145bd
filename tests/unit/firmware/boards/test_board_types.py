"""The boards' code against the types of their own MicroPython."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[4]
TOOL = REPOSITORY / "tools" / "check_firmware_types.py"


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )


@pytest.mark.slow
def test_the_firmware_fits_both_boards() -> None:
    done = check()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Success") == 2


@pytest.mark.slow
def test_a_name_that_a_board_does_not_have_is_found(tmp_path: Path) -> None:
    firmware = tmp_path / "firmware"
    shutil.copytree(REPOSITORY / "firmware", firmware, ignore=shutil.ignore_patterns("__pycache__"))
    for file, right, wrong in (
        ("boards/esp32/board.py", "esp32.idf_heap_info(", "esp32.idf_heap("),
        ("boards/pico_w/board.py", "machine.ADC(", "machine.AnalogueIn("),
        ("surge_device/wifi_board.py", "wlan.isconnected()", "wlan.is_connected()"),
    ):
        text = (firmware / file).read_text()
        assert right in text
        (firmware / file).write_text(text.replace(right, wrong))
    done = check("--firmware", str(firmware), "--cache", str(tmp_path / "cache"))
    assert done.returncode == 1
    for missing in ('"idf_heap"', '"AnalogueIn"', '"is_connected"'):
        assert missing in done.stdout


def test_missing_stubs_are_named_with_the_remedy(tmp_path: Path) -> None:
    done = check("--stubs", str(tmp_path))
    assert done.returncode == 1
    assert "stubs for esp32 are missing" in done.stdout
    assert "--board-stubs" in done.stdout
