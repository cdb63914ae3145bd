"""`surge backend`: run it, set it up, and its upkeep.

Place in the flow: `surge_cli.main` imports this only for `surge backend`. Each command's work is in `app`
(running), `admission` (letting in) or `upkeep` (the rest); here are the words that a person types and reads.

Rules kept: no token, key or secret is ever printed; files that hold them have mode 0600; nothing is
overwritten; what a person can put right is a UserError.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from surge_backend.registry.tokens import Role
from surge_backend.settings import WORKERS_MAX, Settings, check_settings, read_settings
from surge_host.errors import UserError

SUMMARY = "Run the backend: it verifies what gateways forward, pays for it, and keeps the public log."

_PRIVATE_UMASK = 0o077
_CONFIG_DEFAULT = "backend.toml"
LABEL_DEFAULT = "made offline"
_OUT_HELP = "a new file for the token (mode 0600)"

_WORKERS: dict[str, Any] = {
    "type": int,
    "metavar": "N",
    "default": argparse.SUPPRESS,
    "help": "run N processes on the one port (default: [server] workers)",
}

_COMMANDS = {
    "run": "run the backend (the default)",
    "init": "make data directory, keys, database and the first admin token",
    "check": "check the invariants of ledger and log; exit code 1 if one is broken",
    "rebuild-telemetry": "drop the telemetry store's points and write them anew from the stored batches",
    "owner": "make an owner of gateways and devices, and write the owner's token to a file",
    "enrolment": "write a token to a file that enrols one gateway or one device",
    "token": "make a bearer token and write it to a file",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `surge backend [--config FILE] [command]`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=_CONFIG_DEFAULT,
        help=f"settings file (default: {_CONFIG_DEFAULT})",
    )
    parser.add_argument("--workers", **_WORKERS)
    commands = parser.add_subparsers(dest="command", metavar="command", title="commands")
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        # also after the command; SUPPRESS keeps what stood before it
        command.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="settings file")
        if name == "run":
            command.add_argument("--workers", **_WORKERS)
        if name == "token":
            _add_token_arguments(command)
        if name == "owner":
            command.add_argument("--name", required=True, help="shown to people")
            command.add_argument("--out", required=True, metavar="FILE", help=_OUT_HELP)
        if name == "enrolment":
            _add_enrolment_arguments(command)
        if name == "check":
            command.add_argument("--quick", action="store_true", help="the newest part of the log only")


def _add_token_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", required=True, choices=[role.value for role in Role])
    parser.add_argument("--subject", default="", metavar="ID", help="the owner's or gateway's id")
    parser.add_argument("--label", default=LABEL_DEFAULT, help="what the token is for")
    parser.add_argument("--expires-in-days", type=int, metavar="N", help="default: never")
    parser.add_argument("--out", required=True, metavar="FILE", help=_OUT_HELP)


def _add_enrolment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", required=True, choices=["gateway", "device"])
    parser.add_argument("--owner", metavar="ID", help="whose it will be (default: the only owner there is)")
    parser.add_argument("--name", help="what it is called, unless it names itself")
    parser.add_argument(
        "--expires-in-hours", type=int, default=24, metavar="N", help="1 to 720 (default: %(default)s)"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help=_OUT_HELP)


def run(args: argparse.Namespace) -> int:
    """Run the command that `args` name. Raises UserError."""
    os.umask(_PRIVATE_UMASK)  # whatever is made here is for its owner alone
    path = Path(args.config)
    command = args.command or "run"
    if command == "init":
        from surge_backend.upkeep import initialise

        return initialise(path)
    settings = read_settings(path)
    runners: dict[str, Callable[[Settings], int]] = {
        "run": lambda known: _run(known, getattr(args, "workers", None), args.config),
        "check": lambda known: _check(known, args.quick),
        "rebuild-telemetry": _rebuild,
        "owner": lambda known: _owner(known, args),
        "enrolment": lambda known: _enrolment(known, args),
        "token": lambda known: _token(known, args),
    }
    return runners[command](settings)


def _run(settings: Settings, workers: int | None, source: str) -> int:
    from surge_backend.app import run_backend

    if workers is not None:
        if not 1 <= workers <= WORKERS_MAX:
            raise UserError(f"{workers} is no number of workers", "--workers", f"give 1 to {WORKERS_MAX}")
        settings = replace(settings, server=replace(settings.server, workers=workers))
        check_settings(settings, source)
    return run_backend(settings)


def _check(settings: Settings, quick: bool) -> int:
    from surge_backend.upkeep import check

    return check(settings, quick=quick)


def _rebuild(settings: Settings) -> int:
    from surge_backend.rebuild import rebuild_telemetry

    return rebuild_telemetry(settings)


def _owner(settings: Settings, args: argparse.Namespace) -> int:
    from surge_backend.admission import make_owner

    return make_owner(settings, name=args.name, out=Path(args.out))


def _enrolment(settings: Settings, args: argparse.Namespace) -> int:
    from surge_backend.admission import make_enrolment_file

    return make_enrolment_file(
        settings,
        kind=args.kind,
        owner_id=args.owner,
        name=args.name,
        expires_in_hours=args.expires_in_hours,
        out=Path(args.out),
    )


def _token(settings: Settings, args: argparse.Namespace) -> int:
    from surge_backend.upkeep import make_token

    return make_token(
        settings,
        role=Role(args.role),
        subject_id=args.subject,
        label=args.label,
        expires_in_days=args.expires_in_days,
        out=Path(args.out),
    )
