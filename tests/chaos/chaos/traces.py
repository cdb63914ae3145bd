"""What a run leaves behind that it shouldn't: processes, half-written files, spools that grew, descriptors.

Place in the flow: after everything was stopped. Does not look into files.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

DESCRIPTORS_MAX = 128  # of one part; a gateway has one broker link, a few connections and files
SEGMENTS_MAX = 2  # of a spool that was drained: the open one, and one that waits for the next close
TEMPORARIES_MAX = 4  # of a state folder: one for each file that is replaced whole, under a name of its own


def left_running() -> Iterator[str]:
    """Processes that are still there; they are ended now."""
    for listing in Path("/proc/self/task").glob("*/children"):
        for pid in listing.read_text().split():
            try:
                state = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
                command = Path("/proc", pid, "cmdline").read_text().replace("\0", " ").strip()
            except OSError:  # it ended meanwhile
                continue
            if state == "Z":
                os.waitpid(int(pid), 0)
                continue
            yield f"left running: {command[:200]}"
            os.kill(int(pid), signal.SIGKILL)


def left_on_disk(folder: Path) -> Iterator[str]:
    """Files that a killed part began and nobody removes, and spools that hold more than they should."""
    for broker in sorted(folder.glob("gateway-*-broker")):
        for path in broker.glob(".*"):
            yield f"left on disk: {path.relative_to(folder)}"
    for state in sorted(path.parent for path in folder.glob("gateway-*/identity.json")):
        temporaries = list(state.rglob("*.tmp"))
        if len(temporaries) > TEMPORARIES_MAX:
            yield f"left on disk: {len(temporaries)} temporary files in {state.name}"
        segments = list((state / "spool").glob("*.seg"))
        if len(segments) > SEGMENTS_MAX:
            yield f"the spool of {state.name} has {len(segments)} segments although nothing waits in it"


def too_many_descriptors(peaks: Mapping[str, int]) -> Iterator[str]:
    """Parts that had more files and sockets open than they need."""
    for name, count in peaks.items():
        if count > DESCRIPTORS_MAX:
            yield f"{name} had {count} descriptors open"
