"""`surge micropython`: runs the MicroPython that Surge uses, fetched first where the machine has none.

Place in the flow: a thin shell around `surge_cli.micropython`. Does not set MICROPYPATH: what is run sees
what the caller's environment says.
"""

import argparse
import os
import shlex

from surge_cli.micropython import find_micropython

SUMMARY = (
    "Run MicroPython (unix port) with ARGS. Where this machine has none, Debian's package is fetched, "
    "checked and kept in the cache folder."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--print-argv`, and all that follows for the interpreter."""
    parser.add_argument(
        "--print-argv", action="store_true", help="print how it is started and from where, run nothing"
    )
    parser.add_argument("arguments", nargs="*", metavar="ARGS", help="passed on to MicroPython")


def run(args: argparse.Namespace) -> int:
    """Replace this process by MicroPython; returns only after `--print-argv`."""
    interpreter = find_micropython()
    if not args.print_argv:
        os.execvp(interpreter.argv[0], [*interpreter.argv, *args.arguments])  # noqa: S606 - no shell
    print(shlex.join(interpreter.argv))
    return 0
