"""`surge`: one command, its sub-commands imported only when they are asked for.

Place in the flow: the console script's entry point. Does not know what a sub-command does: each lives in a
module that offers `SUMMARY`, `add_arguments(parser)` and `run(args) -> int`.

Rules kept: `surge --help` imports no sub-command, so it is quick and works with any set of extras
installed; what a person can put right is three short lines on stderr and exit code 2, never a traceback;
Ctrl-C is exit code 130.
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import NoReturn

from surge_host import __version__
from surge_host.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

DISTRIBUTION = "surge-depin"


@dataclass(frozen=True)
class SubCommand:
    """Where a sub-command lives, and which extra it needs (empty: none)."""

    name: str
    module: str
    summary: str  # shown by `surge --help`; the module's SUMMARY says the same at more length
    extra: str = ""
    passes_arguments: bool = False  # what follows its own options belongs to the program it runs


SUB_COMMANDS: tuple[SubCommand, ...] = (
    SubCommand("demo", "surge_cli.demo", "run the whole network on this machine, live", extra="demo"),
    SubCommand(
        "simulate",
        "surge_cli.simulate",
        "drive thousands of simulated devices against a real network",
        extra="demo",
    ),
    SubCommand(
        "gateway", "surge_gateway.cli", "run a gateway, or make its key and enrol it", extra="gateway"
    ),
    SubCommand("backend", "surge_backend.cli", "run the backend and its upkeep", extra="backend"),
    SubCommand("export", "surge_cli.export", "write what a backend decided to a file", extra="backend"),
    SubCommand(
        "verify", "surge_cli.verify", "check a backend or an export, trusting nobody", extra="backend"
    ),
    SubCommand("device", "surge_cli.device", "run this machine as a device", extra="gateway"),
    SubCommand(
        "micropython",
        "surge_cli.micropython_cli",
        "run MicroPython, fetched if need be",
        passes_arguments=True,
    ),
)

_OWN_PACKAGES = ("surge_wire", "surge_host", "surge_gateway", "surge_backend", "surge_cli")


class _Parser(argparse.ArgumentParser):
    """argparse, with our way of saying what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, self.prog, f"see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `surge` with `argv` (default: the process's own) and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        return _dispatch(arguments)
    except UserError as error:
        print(_three_lines(error), file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        parser = _top_parser()
        parser.parse_args(arguments)
        parser.print_help()
        return 0
    command = find_sub_command(arguments[0])
    module = load_sub_command(command)
    sub_parser = _Parser(prog=f"surge {command.name}", description=module.SUMMARY)
    module.add_arguments(sub_parser)
    given = _set_apart(arguments[1:]) if command.passes_arguments else arguments[1:]
    return int(module.run(sub_parser.parse_args(given)))


def _set_apart(arguments: list[str]) -> list[str]:
    """`arguments` with `--` before the first that can't be an option of Surge's (those are long, or -h)."""
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        if not argument.startswith("--") and argument != "-h":
            return [*arguments[:index], "--", *arguments[index:]]
    return arguments


def _top_parser() -> _Parser:
    width = max(len(command.name) for command in SUB_COMMANDS)
    listing = "\n".join(f"  {command.name:<{width}}  {command.summary}" for command in SUB_COMMANDS)
    parser = _Parser(
        prog="surge",
        usage="surge [--help] [--version] COMMAND ...",
        description=f"Surge pays devices for work that can be checked.\n\ncommands:\n{listing}",
        epilog="`surge COMMAND --help` says more about one of them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"surge {__version__}")
    return parser


def find_sub_command(name: str) -> SubCommand:
    """The registered sub-command called `name`; UserError names the nearest one otherwise."""
    by_name = {command.name: command for command in SUB_COMMANDS}
    if name in by_name:
        return by_name[name]
    nearest = difflib.get_close_matches(name, by_name, n=1, cutoff=0.5)
    remedy = f"did you mean `surge {nearest[0]}`?" if nearest else "`surge --help` lists the commands"
    raise UserError("unknown command", name, remedy)


def load_sub_command(command: SubCommand) -> ModuleType:
    """Import the sub-command's module; UserError says which extra is missing, if that is why it can't be."""
    try:
        return importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        missing = error.name or command.module
        if missing.partition(".")[0] in _OWN_PACKAGES:
            # Every way of installing brings the whole package: this is our fault, not the person's.
            if missing != command.module:
                raise
            raise UserError(
                "this build of Surge has no such command",
                f"surge {command.name}",
                f"upgrade it: pip install --upgrade {DISTRIBUTION}",
            ) from None
        extra = f"[{command.extra}]" if command.extra else ""
        raise UserError(
            f"a package is missing: {missing}",
            f"surge {command.name}",
            f"pip install '{DISTRIBUTION}{extra}'",
        ) from None


def _three_lines(error: UserError) -> str:
    return f"surge: {error.what}\n  where:  {error.where}\n  remedy: {error.remedy}"
