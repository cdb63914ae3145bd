"""``make chaos``: kill -9 everything at random, under load, from a seed; then the books must agree.

Prints the seed, each disturbance, kills by victim with recovery times, and every check. Exit code 1 where one
failed: then the folder with all data and logs is kept, and the last lines say how to do the same again.
"""

import argparse
import asyncio
import ctypes
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chaos.books import Books, judge
from chaos.schedule import Pace, disturbances
from chaos.site import Plan, Site
from chaos.torment import Torment
from chaos.traces import left_on_disk, left_running, too_many_descriptors
from chaos.verdict import Verdict, show

from surge_host.errors import UserError

KILLS_DEFAULT = 200
KILLS_MAX = 100_000
EXIT_INTERRUPTED = 130
_PR_SET_CHILD_SUBREAPER = 36


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="make chaos ARGS='...'", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seed", type=int, help="repeat a run (default: a new one)")
    parser.add_argument(
        "--kills", type=int, default=KILLS_DEFAULT, metavar="N", help="at least (default 200)"
    )
    parser.add_argument("--minutes", type=float, default=0.0, metavar="N", help="at least so long")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    parser.add_argument("--gateways", type=int, default=2, metavar="N", help="default 2")
    parser.add_argument("--boards", type=int, default=4, metavar="N", help="MicroPython boards (default 4)")
    parser.add_argument("--devices", type=int, default=100, metavar="N", help="simulated ones (default 100)")
    parser.add_argument("--influx", action="store_true", help="InfluxDB as the telemetry store, killed too")
    parser.add_argument("--mosquitto", action="store_true", help="external brokers instead of nats-server")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="backend processes on one database"
    )
    parser.add_argument("--pace", type=float, default=1.0, metavar="SECONDS", help="between two disturbances")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep data and logs there in any case")
    args = parser.parse_args(arguments)
    for name, low, high in (
        ("kills", 1, KILLS_MAX), ("minutes", 0, 10_000), ("gateways", 1, 8), ("boards", 1, 64),
        ("devices", 0, 20_000),
        ("workers", 1, 16), ("pace", 0.05, 60),
    ):  # fmt: skip
        if not low <= getattr(args, name) <= high:
            raise UserError("out of range", f"--{name} {getattr(args, name)}", f"choose {low} to {high}")
    if args.keep is not None and args.keep.exists():
        raise UserError("there is something already", str(args.keep), "name a folder that doesn't exist yet")
    return args


def main(arguments: list[str]) -> int:
    """Run; 0 if everything held."""
    args = parse(arguments)
    seed = random.SystemRandom().randrange(1_000_000) if args.seed is None else args.seed
    folder = args.keep.resolve() if args.keep else Path(tempfile.mkdtemp(prefix="surge-chaos-"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    adopt_orphans()
    # Servers that `make test` unpacked come first; Debian keeps others in sbin.
    os.environ["PATH"] = os.pathsep.join(
        [str(Path(sys.prefix, "servers", "bin")), os.environ.get("PATH", os.defpath), "/usr/sbin"]
    )
    began_s = time.monotonic()

    def tell(text: str) -> None:
        print(
            f"{time.monotonic() - began_s:6.1f} s  {text}", file=sys.stderr if args.json else None, flush=True
        )

    tell(f"seed {seed}, in {folder}")
    try:
        verdict = asyncio.run(chaos(args, seed, folder, tell))
    except asyncio.CancelledError:
        tell(f"interrupted, and everything stopped; data and logs: {folder}")
        return EXIT_INTERRUPTED
    verdict.seconds = time.monotonic() - began_s
    show(verdict, sys.stderr if args.json else sys.stdout)
    if verdict.good and not args.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        tell(f"all data and logs: {folder}")
        tell(f"the same again: make chaos ARGS='{same_again(args, seed)}'")
    if args.json:
        print(json.dumps({"seed": seed, **verdict.as_json()}), flush=True)
    return 0 if verdict.good else 1


def same_again(args: argparse.Namespace, seed: int) -> str:
    """The arguments of this run, but for where and how it tells."""
    words = ["--seed", str(seed)]
    for name, value in vars(args).items():
        if name in ("seed", "json", "keep") or value is False:
            continue
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return " ".join(words)


def adopt_orphans() -> None:
    """Linux: what our children leave behind becomes our child, so that it shows."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


async def chaos(args: argparse.Namespace, seed: int, folder: Path, tell: Callable[[str], None]) -> Verdict:
    """One run from nothing to the verdict."""
    plan = Plan(
        folder,
        seed,
        gateways=args.gateways,
        boards=args.boards,
        devices=args.devices,
        mosquitto=args.mosquitto,
        influx=args.influx or args.workers > 1,  # several processes can't share a DuckDB file
        workers=args.workers,
    )
    site = Site(plan, tell)
    torment = Torment(site, tell)
    books = Books()
    me = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: me and me.cancel())
    try:
        await site.start()
        schedule = disturbances(seed, torment.roles(), Pace.scaled(args.pace))
        await torment.run(schedule, args.kills, args.minutes * 60)
        await site.drain()
        await site.stop()
        site.failures += [*left_on_disk(folder), *too_many_descriptors(site.peaks)]
        tell("everything is stopped; checking the books")
        made, wrong = await site.load.made()
        site.failures += wrong
        books = await judge(folder, site.backend.config, made, site.load.journal.acknowledged_names())
    finally:
        await site.stop()
        if site.store is not None:
            await site.store.stop()
    site.failures += left_running()
    return Verdict(site.failures, books, torment.found, site.peaks)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"chaos: {error.what}\n  where:  {error.where}\n  remedy: {error.remedy}", file=sys.stderr)
        sys.exit(2)
