"""The ``surge simulate`` command: options, the network, the run, the books.

Place in the flow: the shell around ``run``, ``site`` or ``attached``, ``books`` and ``progress``. Rules kept:
whatever happens, children are ended and the folder is removed (``--keep`` keeps it); the exit code is 1 where
the books don't agree; with ``--json`` the last line is one JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.live import Live

from surge_cli.demo.command import stop_signals
from surge_cli.simulate.attached import Attached
from surge_cli.simulate.books import Books
from surge_cli.simulate.fleet import Fleet
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.options import Options, add_arguments, read_options
from surge_cli.simulate.progress import Progress, progress_line, render
from surge_cli.simulate.run import S_PER_THOUSAND_DEVICES, SETTLE_S, Ending, Run
from surge_cli.simulate.site import Site
from surge_cli.simulate.summary import say_summary, summary_json

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "drive thousands of simulated devices against a real network, with everything that goes wrong"
PLAIN_EVERY = 5  # of the looks at the network, one is printed where there is no terminal to draw on


def run(args: argparse.Namespace) -> int:
    """Run it; 0 if the books agree."""
    options = read_options(args)
    console = Console(stderr=options.as_json)
    folder = options.keep.resolve() if options.keep else Path(tempfile.mkdtemp(prefix="surge-simulate-"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = Journal()
    try:
        ending, books = asyncio.run(simulate(options, folder, journal))
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    say_summary(console, options, journal, ending, books)
    if options.as_json:
        print(json.dumps(summary_json(options, journal, ending, books)), flush=True)
    return 0 if books.good else 1


async def simulate(options: Options, folder: Path, journal: Journal) -> tuple[Ending, Books]:
    """One simulation, shown as it goes; ``journal`` is filled."""
    console = Console(stderr=options.as_json)

    def tell(line: str) -> None:
        console.print(f"[dim]·[/dim] {line}", highlight=False)

    network: Site | Attached
    if options.attach is not None:
        network = Attached(options.attach, tell, devices=options.devices)
    else:
        network = Site(folder, tell, devices=options.devices, gateways=options.gateways)
    async with stop_signals() as stop:
        try:
            await _start(network, stop)
            ending = await _run(options, network, journal, stop, console)
            tell("waiting until every batch is settled")
            patience_s = SETTLE_S + options.devices / 1000 * S_PER_THOUSAND_DEVICES
            books = await network.conclude(options.plan, journal, ending.undrained, patience_s)
        finally:
            await network.stop()
    return ending, books


async def _start(network: Site | Attached, stop: asyncio.Event) -> None:
    starting = asyncio.create_task(network.start(), name="start")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        raise KeyboardInterrupt
    starting.result()


async def _run(
    options: Options, network: Site | Attached, journal: Journal, stop: asyncio.Event, console: Console
) -> Ending:
    with _shown(options, network.where, console) as show:
        async with Fleet(
            network.identities,
            network.addresses,
            options.plan,
            journal,
            interval_ms=options.interval_ms,
            readings_max=options.reports,
        ) as fleet:
            return await Run(fleet, show, network.stats, network.check).until(stop, options.seconds)


@contextlib.contextmanager
def _shown(options: Options, where: str, console: Console) -> Iterator[Callable[[Progress], None]]:
    """How progress is shown: a live table on a terminal, a line now and then elsewhere."""
    if not options.as_json and sys.stdout.isatty():
        with Live(console=console, auto_refresh=False, transient=False) as live:
            yield lambda progress: live.update(render(progress, where), refresh=True)
        return
    looks = [0]

    def line(progress: Progress) -> None:
        if looks[0] % PLAIN_EVERY == 0:
            console.print(progress_line(progress), highlight=False, soft_wrap=True)
        looks[0] += 1

    yield line
