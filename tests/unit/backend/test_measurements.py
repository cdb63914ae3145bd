"""Who clears away the folder that workers share when their supervisor was killed."""

import os
from pathlib import Path

from surge_backend.measurements import hold_folder, leave_folder, measurements_folder


def test_the_last_one_clears_it_away(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "histogram_0.db").touch()
    first, second, third = (hold_folder(folder) for _ in range(3))
    assert not leave_folder(folder, first)
    assert (folder / "histogram_0.db").exists()
    os.close(third)  # one that was killed
    assert leave_folder(folder, second)
    assert not folder.exists()


def test_a_supervisor_clears_away_what_it_made(tmp_path: Path) -> None:
    with measurements_folder(tmp_path) as name:
        held = hold_folder(Path(name))
        assert Path(name).stat().st_mode & 0o077 == 0
    assert not Path(name).exists()
    assert leave_folder(Path(name), held)
