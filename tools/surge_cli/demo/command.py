"""The ``surge demo`` command: start, show, stop, judge, clean up.

Place in the flow: the shell around ``network``, ``view`` and ``outcome``. Rules kept: whatever happens,
children are ended and the demo's folder is removed (``--keep`` keeps it); the exit code is 1 where an
invariant is false; with ``--json`` the last line is one JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console
from rich.live import Live

from surge_cli.demo.network import DEVICE_NAMES, Network, Options
from surge_cli.demo.outcome import Outcome, judge, take_down
from surge_cli.demo.snapshot import take_snapshot
from surge_cli.demo.view import credits_text, flow_line, render
from surge_host.errors import UserError

SUMMARY = "run the whole network on this machine, live: devices, broker, gateway, backend, credits"

DEVICES_MAX = 4 * len(DEVICE_NAMES)
REFRESH_S = 1.0
PLAIN_EVERY_S = 5.0  # between two lines where there is no terminal to draw on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The demo's options."""
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="stop after N seconds (default: at Ctrl-C)"
    )
    parser.add_argument("--json", action="store_true", help="no live view; the last line is one JSON object")
    parser.add_argument("--devices", type=int, default=3, metavar="N", help="how many devices (default 3)")
    parser.add_argument(
        "--interval",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="between two reports of a device (default 1)",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep keys, data and logs there")


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 if every invariant holds."""
    if not 1 <= args.devices <= DEVICES_MAX:
        raise UserError(
            "too many or too few devices", f"--devices {args.devices}", f"choose 1 to {DEVICES_MAX}"
        )
    if args.seconds is not None and not 1 <= args.seconds <= 86400:
        raise UserError("not a duration", f"--seconds {args.seconds}", "choose 1 to 86400")
    if not 0.05 <= args.interval <= 3600:
        raise UserError("not an interval", f"--interval {args.interval}", "choose 0.05 to 3600 seconds")
    if args.keep is not None and args.keep.exists():
        raise UserError("there is something already", str(args.keep), "name a folder that doesn't exist yet")
    folder = args.keep.resolve() if args.keep else Path(tempfile.mkdtemp(prefix="surge-demo-"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    console = Console(stderr=args.json)
    try:
        outcome = asyncio.run(_demo(args, folder, console))
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    _say_outcome(outcome, console)
    if args.json:
        print(json.dumps(outcome.as_json()), flush=True)
    return 0 if outcome.good else 1


@contextlib.asynccontextmanager
async def stop_signals() -> AsyncIterator[asyncio.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that the end is always the orderly one."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _demo(args: argparse.Namespace, folder: Path, console: Console) -> Outcome:
    options = Options(devices=args.devices, interval_s=args.interval, folder=folder)
    network = Network(options, lambda line: console.print(f"[dim]·[/dim] {line}", highlight=False))
    async with stop_signals() as stop:
        try:
            starting = asyncio.create_task(network.start(), name="start")
            stopped = asyncio.create_task(stop.wait(), name="stop")
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                raise KeyboardInterrupt
            starting.result()
            await _watch(network, args, stop, console)
            console.print(
                "[dim]·[/dim] stopping: devices, then the gateway, then the backend", highlight=False
            )
            evidence = await take_down(network)
        finally:
            await network.stop()
    console.print("[dim]·[/dim] checking the invariants, rebuilding the telemetry", highlight=False)
    return await asyncio.to_thread(judge, evidence)


async def _watch(network: Network, args: argparse.Namespace, stop: asyncio.Event, console: Console) -> None:
    """Show the network until the time is up or somebody stops it."""
    end = time.monotonic() + args.seconds if args.seconds else None
    live = not args.json and sys.stdout.isatty()
    with contextlib.ExitStack() as stack:
        screen = (
            stack.enter_context(Live(console=console, auto_refresh=False, transient=False)) if live else None
        )
        while not stop.is_set() and (end is None or time.monotonic() < end):
            network.check()
            snapshot = await take_snapshot(network)
            if screen is not None:
                left = f"{max(0, end - time.monotonic()):.0f} s left" if end else "Ctrl-C stops it"
                view = render(snapshot, network.backend.url, str(network.options.folder), left, console.width)
                screen.update(view, refresh=True)
            else:
                console.print(flow_line(snapshot), highlight=False, soft_wrap=True, justify="left")
            pause = REFRESH_S if screen is not None else PLAIN_EVERY_S
            if end is not None:
                pause = min(pause, max(0.0, end - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)


def _say_outcome(outcome: Outcome, console: Console) -> None:
    console.print()
    for name, holds in outcome.invariants.items():
        mark = "[green]✓[/green]" if holds else "[bold red]✗[/bold red]"
        console.print(f" {mark} {name.replace('_', ' ')}", highlight=False)
        if not holds:
            console.print(f"   [red]{outcome.details.get(name, '')}[/red]", highlight=False)
    earned = credits_text(outcome.credited_microcredits)
    console.print(
        f"\n {outcome.reports_made:,} reports made, {outcome.reports_acknowledged:,} acknowledged, "
        f"{outcome.reports_accepted:,} accepted, {outcome.reports_rejected:,} rejected; "
        f"{outcome.telemetry_points:,} points; [bold yellow]{earned}[/bold yellow] "
        "credits earned",
        highlight=False,
    )
