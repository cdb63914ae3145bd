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
from surge_cli.simulate.books import Books, check_books
from surge_cli.simulate.fleet import Fleet
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.options import Options, add_arguments, read_options
from surge_cli.simulate.progress import Progress, progress_line, render
from surge_cli.simulate.run import SETTLE_S, Ending, Run
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
        ending, books = asyncio.run(_simulate(options, folder, journal, console))
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    say_summary(console, options, journal, ending, books)
    if options.as_json:
        print(json.dumps(summary_json(options, journal, ending, books)), flush=True)
    return 0 if books.good else 1


async def _simulate(
    options: Options, folder: Path, journal: Journal, console: Console
) -> tuple[Ending, Books]:
    def tell(line: str) -> None:
        console.print(f"[dim]·[/dim] {line}", highlight=False)

    site = Site(folder, tell, devices=options.devices, gateways=options.gateways)
    async with stop_signals() as stop:
        try:
            await _start(site, stop)
            ending = await _run(options, site, journal, stop, console)
            tell("waiting until every batch is settled")
            await site.settle(SETTLE_S + options.devices / 100)
            statuses = await site.gateway_statuses()
        finally:
            await site.stop()
    tell("comparing what was made with what the backend has")
    books = await asyncio.to_thread(
        check_books, site.settings, options.plan, journal, site.identities, statuses, ending.undrained
    )
    return ending, books


async def _start(site: Site, stop: asyncio.Event) -> None:
    starting = asyncio.create_task(site.start(), name="start")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        raise KeyboardInterrupt
    starting.result()


async def _run(
    options: Options, site: Site, journal: Journal, stop: asyncio.Event, console: Console
) -> Ending:
    with _shown(options, f"logs {site.folder}   backend {site.backend.url}/", console) as show:
        async with Fleet(
            site.identities,
            site.addresses,
            options.plan,
            journal,
            interval_ms=options.interval_ms,
            readings_max=options.reports,
        ) as fleet:
            return await Run(fleet, show, site.stats, site.check).until(stop, options.seconds)


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
