"""What a simulation came to: a table for people, one JSON object for programs.

Place in the flow: ``command`` shows it last. Pure but for printing. Rule kept: every figure is the journal's,
the gateways' or the backend's.
"""

from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from surge_cli.demo.view import credits_text
from surge_cli.simulate.books import Books
from surge_cli.simulate.journal import Journal, percentile
from surge_cli.simulate.options import Options
from surge_cli.simulate.progress import WRONGS
from surge_cli.simulate.run import Ending

_MADE = (
    ("readings", "readings taken"),
    ("readings_left_out", "readings left out: this machine didn't keep up"),
    ("thinned", "readings thinned out, a full store"),
    ("sealed", "reports sealed"),
    ("sent", "publishes sent"),
    ("sent_again", "of them again"),
    ("acknowledged", "reports acknowledged"),
    ("acknowledged_to_others", "of second holders and floods acknowledged"),
    ("connected", "connections made"),
    ("disconnected", "connections lost"),
    ("connect_failed", "connections that failed"),
    ("commands_executed", "commands executed"),
    ("flood_garbage", "publishes of floods: garbage"),
    ("flood_bad_mac", "publishes of floods: a wrong MAC"),
    ("flood_bad_pack", "publishes of floods: a bad pack"),
    ("flood_repetition", "publishes of floods: the same again"),
)


def say_summary(console: Console, options: Options, journal: Journal, ending: Ending, books: Books) -> None:
    """The tables and the checks."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    counts = journal.counts
    for name, text in _MADE:
        if counts[name]:
            table.add_row(f"[cyan]{counts[name]:,}[/cyan]", text)
    for name, text in WRONGS:
        if counts[name]:
            table.add_row(f"[red]{counts[name]:,}[/red]", text)
    for reason, count in books.refused.items():
        table.add_row(f"[blue]{count:,}[/blue]", f"publishes not taken by gateways: {_words(reason)}")
    table.add_row(f"[green]{books.accepted:,}[/green]", "reports accepted")
    for name, count in books.rejected.items():
        table.add_row(f"[magenta]{count:,}[/magenta]", f"reports rejected: {_words(name)}")
    table.add_row(f"[magenta]{books.frozen:,}[/magenta]", "devices frozen")
    table.add_row(
        f"[yellow]{credits_text(books.credited_microcredits)}[/yellow]", "credits earned by devices"
    )
    console.print(table)
    half, most = percentile(journal.latencies_ms, 0.5), percentile(journal.latencies_ms, 0.99)
    if half is not None and most is not None:
        console.print(f" from a reading to its ack: half within {half:,.0f} ms, 99 % within {most:,.0f} ms")
    console.print(
        f" {ending.sealed_per_s:,.0f} reports/s made for {ending.run_s:,.0f} s,"
        f" {ending.cpu_s / ending.run_s:.0%} of one core spent on it; seed {options.plan.seed}\n",
        highlight=False,
    )
    for name, violations in books.checks.items():
        mark = "[bold red]✗[/bold red]" if violations else "[green]✓[/green]"
        console.print(f" {mark} {_words(name)}", highlight=False)
        for text in violations:
            console.print(f"   [red]{text}[/red]", highlight=False)


def _words(name: str) -> str:
    return name.replace("_", " ")


def summary_json(options: Options, journal: Journal, ending: Ending, books: Books) -> dict[str, Any]:
    """The same as one object."""
    return {
        "devices": options.devices,
        "gateways": options.gateways,
        "seed": options.plan.seed,
        "plan": asdict(options.plan.wrongs),
        "counts": {name: count for name, count in sorted(journal.counts.items()) if count},
        "cloned_devices": len(journal.cloned),
        "refused_by_gateways": books.refused,
        "reports_accepted": books.accepted,
        "reports_rejected": books.rejected,
        "devices_frozen": books.frozen,
        "credited_microcredits": books.credited_microcredits,
        "ack_latency_p50_ms": percentile(journal.latencies_ms, 0.5),
        "ack_latency_p99_ms": percentile(journal.latencies_ms, 0.99),
        **asdict(ending),
        "checks": {name: not violations for name, violations in books.checks.items()},
        "violations": {name: found for name, found in books.checks.items() if found},
    }
