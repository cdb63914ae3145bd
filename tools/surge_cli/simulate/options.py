"""What a person can ask of ``surge simulate``, checked before anything is started.

Place in the flow: ``command`` reads these first. Pure. Rule kept: every number has bounds, and an error names
the option.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from surge_cli.simulate.plan import PRESETS, Plan, Wrongs
from surge_cli.simulate.site import GATEWAYS_MAX
from surge_host.errors import UserError

DEVICES_DEFAULT = 100
SECONDS_DEFAULT = 30.0
INTERVAL_S_DEFAULT = 5.0
INTERVAL_S_MIN, INTERVAL_S_MAX = 0.02, 86_400.0
SECONDS_MAX = 7 * 86_400.0
REPORTS_MAX = 100_000_000
SEED_DEFAULT = 1

_WRONGS_HELP = {
    "loss": "chance that a publish, or an ack, never arrives",
    "duplicate": "chance that a publish arrives twice",
    "reorder": "chance that a publish is overtaken by later ones",
    "reboots": "chance after each reading that the power is cut",
    "gaps": "chance that flash loses a sealed report for ever, before it was sent",
    "skew": "share of devices with a wrong clock: 1970, 2038, far future, drifting, none",
    "clones": "share of devices with a second holder of their key",
    "replays": "share of devices that replay old reports, their own and others'",
    "floods": "share of devices that flood",
}


@dataclass(frozen=True)
class Options:
    """All of them, checked."""

    plan: Plan
    preset: str
    interval_ms: float
    seconds: float | None
    reports: int | None
    gateways: int
    keep: Path | None
    attach: Path | None
    as_json: bool

    @property
    def devices(self) -> int:
        """How many there are."""
        return self.plan.devices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    parser.add_argument(
        "--devices", type=int, default=DEVICES_DEFAULT, metavar="N", help="how many (default %(default)s)"
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=float, metavar="N", help="reports a second, of all devices together")
    pace.add_argument(
        "--interval",
        type=float,
        metavar="SECONDS",
        help=f"between two reports of a device (default {INTERVAL_S_DEFAULT:g})",
    )
    parser.add_argument(
        "--seconds", type=float, metavar="N", help=f"stop after N seconds (default {SECONDS_DEFAULT:g})"
    )
    parser.add_argument("--reports", type=int, metavar="N", help="stop after N readings, of all together")
    parser.add_argument(
        "--seed", type=int, default=SEED_DEFAULT, metavar="N", help="of all that goes wrong (default 1)"
    )
    parser.add_argument(
        "--plan",
        choices=sorted(PRESETS),
        default="honest",
        help="what goes wrong: nothing, or some of everything (default honest); the options below change it",
    )
    for one in fields(Wrongs):
        parser.add_argument(f"--{one.name}", type=float, metavar="0..1", help=_WRONGS_HELP[one.name])
    parser.add_argument(
        "--gateways", type=int, default=1, metavar="K", help="each with a broker of its own (default 1)"
    )
    parser.add_argument(
        "--attach",
        type=Path,
        metavar="FILE",
        help="use the running network that FILE names, not one of its own",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep keys, data and logs there")
    parser.add_argument("--json", action="store_true", help="no live view; the last line is one JSON object")


def parse_options(arguments: Sequence[str]) -> Options:
    """The options of a command line. Raises UserError, or SystemExit for what argparse refuses."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return read_options(parser.parse_args(list(arguments)))


def read_options(args: argparse.Namespace) -> Options:
    """The checked options. Raises UserError."""
    given = {one.name: getattr(args, one.name) for one in fields(Wrongs)}
    wrongs = replace(
        PRESETS[args.plan], **{name: value for name, value in given.items() if value is not None}
    )
    plan = Plan(args.seed, args.devices, wrongs)
    if not 1 <= args.gateways <= GATEWAYS_MAX:
        raise UserError(
            "too many or too few gateways", f"--gateways {args.gateways}", f"choose 1 to {GATEWAYS_MAX}"
        )
    if args.attach is not None and (args.keep is not None or args.gateways != 1):
        raise UserError(
            "a network that runs already has its own folder and gateways",
            "--attach",
            "leave out --keep and --gateways",
        )
    if args.keep is not None and args.keep.exists():
        raise UserError("there is something already", str(args.keep), "name a folder that doesn't exist yet")
    if args.seconds is not None and not 1 <= args.seconds <= SECONDS_MAX:
        raise UserError("not a duration", f"--seconds {args.seconds}", f"choose 1 to {SECONDS_MAX:g}")
    if args.reports is not None and not 1 <= args.reports <= REPORTS_MAX:
        raise UserError("not a number of reports", f"--reports {args.reports}", f"choose 1 to {REPORTS_MAX}")
    return Options(
        plan,
        args.plan,
        _interval_s(args) * 1000,
        SECONDS_DEFAULT if args.seconds is None and args.reports is None else args.seconds,
        args.reports,
        args.gateways,
        args.keep,
        args.attach,
        args.json,
    )


def _interval_s(args: argparse.Namespace) -> float:
    if args.rate is not None:
        interval_s = args.devices / args.rate if args.rate > 0 else 0.0
        asked = f"--rate {args.rate:g} with --devices {args.devices}"
    else:
        interval_s = INTERVAL_S_DEFAULT if args.interval is None else args.interval
        asked = f"--interval {interval_s:g}"
    if not INTERVAL_S_MIN <= interval_s <= INTERVAL_S_MAX:
        raise UserError(
            "not a pace for a device",
            asked,
            f"choose so that each reports every {INTERVAL_S_MIN:g} to {INTERVAL_S_MAX:g} s;"
            " a gateway takes 20 a second of one device by default",
        )
    return interval_s
