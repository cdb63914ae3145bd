"""How far a simulation is, for a person: one table on a terminal, one line elsewhere.

Place in the flow: ``command`` takes a `Progress` a second and shows it. Pure.
"""

from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from surge_cli.demo.view import ARROW, credits_text
from surge_cli.simulate.journal import Journal, percentile

RECENT_LATENCIES = 5_000  # of the newest acks: what the view's percentiles are of

# What is shown of the journal's counts, in this order, where it is more than zero.
WRONGS = (
    ("withheld", "publishes lost"),
    ("acks_withheld", "acks lost"),
    ("doubled", "publishes doubled"),
    ("held_back", "publishes overtaken"),
    ("power_cuts", "power cuts"),
    ("lost_for_ever", "reports lost for ever"),
    ("equivocations", "equivocations"),
    ("forks", "forked histories"),
    ("replays", "replays"),
    ("replays_elsewhere", "replays at another gateway"),
    ("replays_in_foreign_names", "reports replayed by another device"),
    ("floods", "floods"),
)


@dataclass(frozen=True)
class Progress:
    """One moment. ``phase`` is what goes on, ``left`` how long it may take."""

    phase: str
    left: str
    devices: int
    online: int
    sealed: int
    sealed_per_s: float
    sent: int
    acknowledged: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    accepted: int
    rejected: int
    credited_microcredits: int
    wrongs: tuple[tuple[str, int], ...]


def take_progress(
    phase: str, left: str, journal: Journal, devices: int, online: int, per_s: float, stats: dict[str, Any]
) -> Progress:
    """What the journal and the backend's ``/v1/stats`` (empty where it doesn't answer) say now."""
    counts = journal.counts
    recent = journal.latencies_ms[-RECENT_LATENCIES:]
    return Progress(
        phase,
        left,
        devices,
        online,
        counts["sealed"],
        per_s,
        counts["sent"],
        counts["acknowledged"],
        percentile(recent, 0.5),
        percentile(recent, 0.99),
        stats.get("reports_accepted", 0),
        stats.get("reports_rejected", 0),
        stats.get("credited_microcredits", 0),
        tuple((text, counts[name]) for name, text in WRONGS if counts[name]),
    )


def progress_line(progress: Progress) -> Text:
    """One line along the flow."""
    text = Text()
    for place, (amount, what, style) in enumerate(
        (
            (f"{progress.online:,}", f"of {progress.devices:,} online", "cyan"),
            (f"{progress.sealed:,}", "made", "cyan"),
            (f"{progress.acknowledged:,}", "safe at a gateway", "blue"),
            (f"{progress.accepted:,}", "accepted", "green"),
            (credits_text(progress.credited_microcredits), "credits", "bold yellow"),
        )
    ):
        if place:
            text.append(ARROW, style="dim")
        text.append(amount, style=style)
        text.append(f" {what}", style="dim")
    return text


def _latency(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms"


def render(progress: Progress, where: str) -> RenderableType:
    """The whole view."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(
        Text("● fleet", style="cyan"),
        f"{progress.sealed_per_s:,.0f} reports/s made, {progress.sent:,} publishes sent",
    )
    grid.add_row(
        Text("● gateways", style="blue"),
        f"from a reading to its ack: half within {_latency(progress.latency_p50_ms)},"
        f" 99 % within {_latency(progress.latency_p99_ms)}",
    )
    grid.add_row(
        Text("● backend", style="green"),
        f"{progress.accepted:,} reports accepted, {progress.rejected:,} rejected with a reason",
    )
    wrongs = Text("nothing", style="dim")
    if progress.wrongs:
        wrongs = Text(", ".join(f"{count:,} {text}" for text, count in progress.wrongs))
    grid.add_row(Text("● went wrong", style="red"), wrongs)
    body = Group(progress_line(progress), Text(), grid, Text(), Text(where, style="dim"))
    return Panel(
        body,
        title=f"[bold]Surge[/bold]  {progress.phase}",
        subtitle=progress.left,
        box=box.ROUNDED,
        padding=(1, 2),
    )
