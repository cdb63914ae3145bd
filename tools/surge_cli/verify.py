"""``surge verify``: check a whole network, or an export of it, without trust in who runs it.

Place in the flow: the words and exit codes around `surge_backend.audit`. Exit code 0: everything that could
be checked is right; 1: a lie, shown with its place; 2: nothing could be checked.

Rules kept: what rests on somebody's word is said, every time; the key of a log is either given, or remembered
from the first time, or taken on the backend's word, and then that is said too.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from surge_backend.audit.fetching import Backend, fetch_frames, open_backend
from surge_backend.audit.findings import Finding
from surge_backend.audit.framing import ExportUnreadable
from surge_backend.audit.remembering import Remembered, read_device_keys, read_remembered, write_remembered
from surge_backend.audit.served import check_served, decode_key, encode_key
from surge_backend.audit.verifying import Options, Report, verify_export, verify_items
from surge_cli.auditor import read_token
from surge_host.errors import UserError
from surge_wire.limits import RECEIPT_LEN_MAX

SUMMARY = "Check a backend, or an export of it: log, chains, verdicts and money are all computed again."

EXIT_LIE: Final = 1
ALL_MAX: Final = 100
_PROGRESS_EVERY: Final = 50  # entries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `surge verify URL|FILE`."""
    parser.add_argument(
        "source", metavar="URL|FILE", help="a backend's address, or what `surge export` wrote"
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="an auditor's or admin's token; without: the public part",
    )
    parser.add_argument("--plain-http", action="store_true", help="allow http:// to another machine")
    parser.add_argument("--log-key", metavar="BASE64URL", help="the log's public key, if you know it")
    parser.add_argument(
        "--since", type=Path, metavar="FILE", help="a signed head that you kept: the log has to extend it"
    )
    parser.add_argument(
        "--remember",
        type=Path,
        metavar="FILE",
        help="hold the log to what this file says, and keep what was seen",
    )
    parser.add_argument(
        "--device-keys", type=Path, metavar="FILE", help="the devices' report keys, to check MACs too"
    )
    parser.add_argument("--all", action="store_true", help=f"list up to {ALL_MAX} lies, not the first only")
    parser.add_argument("--json", action="store_true", help="the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Verify, print, and say it in the exit code. Raises UserError."""
    remembered = None if args.remember is None else read_remembered(args.remember)
    options = _options(args, remembered)
    backend = None
    if "://" in args.source:
        token = None if args.token_file is None else read_token(args.token_file)
        backend = open_backend(args.source, token, plain_http=args.plain_http)
    elif args.token_file is not None:
        raise UserError(
            "a file needs no token", "--token-file", "leave it out, or give the backend's address"
        )
    try:
        report = _verify(args.source, backend, options)
    except ExportUnreadable as error:
        remedy = "export it anew; a backend of another version needs a `surge` of its own version"
        raise UserError(error.what, f"{args.source}, {error.where}", remedy) from error
    finally:
        _clear_progress()
    if args.remember is not None and report.sound:
        write_remembered(args.remember, Remembered(report.log_public_key, report.head), report.tree_size)
    if args.json:
        print(json.dumps(_as_json(report), indent=1))
    else:
        for line in _as_text(report, args.remember):
            print(line)
    return 0 if report.sound else EXIT_LIE


def _options(args: argparse.Namespace, remembered: Remembered | None) -> Options:
    key = None if args.log_key is None else _log_key(args.log_key)
    heads = [] if args.since is None else [_head_file(args.since)]
    if remembered is not None:
        if key is not None and key != remembered.log_public_key:
            raise UserError(
                "the log's key is not the one that was remembered",
                str(args.remember),
                "find out which is right",
            )
        key = remembered.log_public_key
        heads += [remembered.head] if remembered.head else []
    keys = None if args.device_keys is None else read_device_keys(args.device_keys)
    progress = _show_progress if sys.stderr.isatty() else None
    return Options(key, heads, keys, ALL_MAX if args.all else 1, progress)


def _verify(source: str, backend: Backend | None, options: Options) -> Report:
    if backend is None:
        try:
            return verify_export(Path(source), options)
        except OSError as error:
            remedy = "give an export's file, or a backend's address as https://…"
            raise UserError(f"the export can't be read: {error.strerror}", source, remedy) from error
    report = verify_items(_numbered(backend), options)
    return replace(report, findings=check_served(backend, report)) if report.sound else report


def _numbered(backend: Backend) -> Iterator[tuple[int, bytes]]:
    offset = 0
    for item in fetch_frames(backend):
        yield offset, item
        offset += len(item)


def _log_key(text: str) -> bytes:
    key = decode_key(text)
    if key is None:
        remedy = "give it as /v1/log/key has it: 43 characters of base64url"
        raise UserError("not a log's public key", "--log-key", remedy)
    return key


def _head_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(RECEIPT_LEN_MAX + 1)
    except OSError as error:
        raise UserError(f"the head can't be read: {error.strerror}", str(path), "check its name") from error
    if not data or len(data) > RECEIPT_LEN_MAX:
        raise UserError(
            "the file holds no signed head", str(path), "keep what /v1/log/head answers, as it is"
        )
    return data


def _show_progress(entries: int, of: int) -> None:
    if entries % _PROGRESS_EVERY == 0:
        print(f"\r  {entries:,} of {max(entries, of):,} entries", end="", file=sys.stderr, flush=True)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _as_text(report: Report, remember: Path | None) -> Iterator[str]:
    key = encode_key(report.log_public_key)
    yield f"log key      {key}"
    if report.key_given:
        yield "             the one that you gave or remembered"
    elif remember is not None:
        yield f"             taken on the backend's word this once; {remember} holds it to it from now on"
    else:
        yield "             taken on the backend's word: compare it, and give it with --log-key the next time"
    yield f"entries      {report.tree_size:,}, root {report.root.hex()}"
    yield "checked"
    for name, count in report.checked.items():
        yield f"  {count:>11,}  {name}"
    yield "not checked"
    for what, why in report.unchecked.items():
        yield f"  {what}: {why}"
    for finding in report.findings:
        yield from _finding_lines(finding)
    yield "Everything that was checked is right." if report.sound else _bad_end(len(report.findings))


def _bad_end(count: int) -> str:
    return "This is a lie, or the backend's data is damaged." if count == 1 else f"{count} lies."


def _finding_lines(finding: Finding) -> Iterator[str]:
    yield f"LIE ({finding.kind}): {finding.what}"
    yield f"  where      {finding.where}"
    yield f"  expected   {finding.expected}"
    yield f"  found      {finding.found}"


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "sound": report.sound,
        "full": report.full,
        "log_public_key": encode_key(report.log_public_key),
        "log_key_given": report.key_given,
        "tree_size": report.tree_size,
        "root": report.root.hex(),
        "checked": dict(report.checked),
        "not_checked": dict(report.unchecked),
        "findings": [asdict(finding) for finding in report.findings],
    }
