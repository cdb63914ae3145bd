"""Files that hold verifiers: readable by their owner alone, and always whole.

Place in the flow: how `embedded` and `mosquitto_files` put rendered text on disk. Rules kept: mode 0600 from
the first byte on; a reader, or a crash, finds the old text or the new one, never a part.
"""

from pathlib import Path

from surge_gateway.broker.errors import NO_ROOM, BrokerDiskFull, BrokerError
from surge_host.private_files import remove_leftovers, replace_file

FOLDER_MODE = 0o700


def make_private_folder(folder: Path, setting: str) -> None:
    """Makes `folder` (mode 0700) if it isn't there. BrokerError naming `setting` if it can't be used."""
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, setting, error) from error


def write_private_file(path: Path, text: str, setting: str) -> None:
    """Replaces `path` by `text` in one step, mode 0600, durable on return. BrokerError if it can't."""
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise _unusable(path, setting, error) from error


def sweep_private_file(path: Path, setting: str) -> None:
    """Removes what `write_private_file` left beside `path` when it was killed: verifiers. For whoever holds
    the folder alone. BrokerError if it can't."""
    try:
        remove_leftovers(path)
    except OSError as error:
        raise _unusable(path, setting, error) from error


def _unusable(path: Path, setting: str, error: OSError) -> BrokerError:
    kind = BrokerDiskFull if error.errno in NO_ROOM else BrokerError
    return kind(
        f"can't write: {error.strerror}",
        f"{setting} = {path}",
        "give a folder that the gateway's user may write to, with free space",
    )
