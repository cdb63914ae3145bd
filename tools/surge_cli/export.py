"""``surge export``: everything that a backend decided, in one file that `surge verify` checks.

Place in the flow: fetched from a running backend, or read from its database with ``--config``, running or
not. Does not verify. Rules kept: the file is new and for its owner alone; what broke off is taken away
again; device secrets never leave the backend: ``--device-keys-out`` writes the keys of their reports, and
says so.
"""

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.exc import DBAPIError

from surge_backend.audit import items
from surge_backend.audit.device_keys import report_keys
from surge_backend.audit.exporting import Source, export_parts
from surge_backend.audit.fetching import fetch_frames, open_backend
from surge_backend.audit.framing import ExportUnreadable, frame
from surge_backend.audit.remembering import format_device_keys
from surge_backend.errors import BackendError
from surge_backend.keys import SealError, read_log_key, read_master_key
from surge_backend.opening import as_user_error, opened_database, shown_url, unusable
from surge_backend.settings import Settings, read_settings
from surge_backend.upkeep import wall_clock_ms
from surge_backend.verify.limits import DEFAULT_LIMITS
from surge_cli.auditor import read_token
from surge_host.errors import UserError

SUMMARY = "Write everything that a backend decided to a file, for `surge verify` or anyone else to check."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `surge export [URL] --out FILE`."""
    parser.add_argument("url", nargs="?", metavar="URL", help="the backend's address")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="an auditor's or admin's token; without: the public part",
    )
    parser.add_argument("--plain-http", action="store_true", help="allow http:// to another machine")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the backend's settings: read its database instead"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="a new file")
    parser.add_argument(
        "--device-keys-out",
        type=Path,
        metavar="FILE",
        help="with --config, a new file (mode 0600) for the report keys that MACs are checked with",
    )


def run(args: argparse.Namespace) -> int:
    """Write the file. Raises UserError."""
    if (args.url is None) == (args.config is None):
        raise UserError("nothing to export, or two things", "surge export", "give a URL, or --config FILE")
    if args.config is not None:
        return _export_database(read_settings(args.config), args.out, args.device_keys_out)
    if args.device_keys_out is not None:
        raise UserError(
            "a backend gives no device's key to anyone", "--device-keys-out", "use it with --config, there"
        )
    token = None if args.token_file is None else read_token(args.token_file)
    backend = open_backend(args.url, token, plain_http=args.plain_http)
    try:
        _write(args.out, (frame(item) for item in fetch_frames(backend)))
    except ExportUnreadable as error:
        raise UserError(
            error.what, f"{args.url}, {error.where}", "check that it is a Surge backend"
        ) from error
    _say(args.out, "everything" if token else "the public part of the log")
    return 0


def _export_database(settings: Settings, out: Path, device_keys_out: Path | None) -> int:
    log_key = read_log_key(settings.storage.log_key_path)
    with opened_database(settings) as database:
        source = Source(database, log_key.public_key, wall_clock_ms, DEFAULT_LIMITS)
        try:
            _write(out, export_parts(source, items.FULL))
            if device_keys_out is not None:
                vault = read_master_key(settings.storage.master_key_path)
                _write(device_keys_out, format_device_keys(report_keys(vault, database)))
        except SealError as error:
            place = str(settings.storage.master_key_path)
            raise UserError(str(error), place, "put the right master key there") from error
        except BackendError as error:
            raise as_user_error(error, shown_url(database)) from error
        except DBAPIError as error:
            raise unusable(error, shown_url(database)) from error
    _say(out, "everything")
    if device_keys_out is not None:
        print(f"{device_keys_out} has the devices' report keys: who reads it can forge reports.")
    return 0


def _write(path: Path, parts: Iterable[bytes]) -> None:
    """A new file of mode 0600; taken away again if it can't be finished."""
    opener: Callable[[str, int], int] = lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)  # noqa: E731
    try:
        file: BinaryIO
        with open(path, "xb", opener=opener) as file:
            try:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                path.unlink()
                raise
    except FileExistsError:
        raise UserError("the file exists already", str(path), "name a new one, or move that away") from None
    except OSError as error:
        raise UserError(
            f"the file can't be written: {error.strerror}", str(path), "check the folder and its disk"
        ) from error


def _say(out: Path, what: str) -> None:
    print(f"{out} has {what}, {out.stat().st_size:,} bytes. Check it: surge verify {out}")
