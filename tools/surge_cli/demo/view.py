"""The live table: devices, gateway, backend and credits, so that a person sees at a glance where readings
are.

Place in the flow: shows a ``Snapshot``. Pure: a snapshot in, something that rich can draw out.
"""

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from surge_cli.demo.snapshot import Snapshot

ARROW = "  ━▶  "
WIDE = 120  # columns; below that, ids and heaps make room for the readings


def _number(value: int) -> str:
    return f"{value:,}"


def credits_text(microcredits: int) -> str:
    """An amount of micro-credits as a person reads it: six decimals of a credit, exactly."""
    sign = "-" if microcredits < 0 else ""
    whole, rest = divmod(abs(microcredits), 1_000_000)
    return f"{sign}{whole:,}.{rest:06d}"


def flow_line(snapshot: Snapshot) -> Text:
    """One line along the flow: made, on the gateway's disk, accepted, credited."""
    text = Text(justify="center")
    steps = (
        (_number(snapshot.made), "made by devices", "cyan"),
        (_number(snapshot.acknowledged), "safe at the gateway", "blue"),
        (_number(snapshot.accepted), "accepted", "green"),
        (credits_text(snapshot.credited_microcredits), "credits", "bold yellow"),
    )
    for place, (amount, what, style) in enumerate(steps):
        if place:
            text.append(ARROW, style="dim")
        text.append(amount, style=style)
        text.append(f" {what}", style="dim")
    return text


def _device_table(snapshot: Snapshot, wide: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("device", no_wrap=True)
    if wide:
        table.add_column("id", style="dim", no_wrap=True)
    for title, style in (("made", "cyan"), ("acked", "blue"), ("accepted", "green"), ("credits", "yellow")):
        table.add_column(title, justify="right", style=style, no_wrap=True)
    if wide:
        table.add_column("heap free", justify="right", style="dim", no_wrap=True)
    table.add_column("latest reading, as stored", overflow="fold")
    for device in snapshot.devices:
        mark = Text("● ", style="green" if device.linked else "red")
        row: list[RenderableType] = [mark + Text(device.name)]
        if wide:
            row.append(device.device_id)
        row += [_number(device.made), _number(device.acknowledged), _number(device.accepted)]
        row.append(credits_text(device.microcredits))
        if wide:
            row.append(f"{device.heap_free // 1024} KiB")
        table.add_row(*row, device.reading)
    return table


def _hosts(snapshot: Snapshot) -> Table:
    """Gateway and backend, a line each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    share = snapshot.credited_microcredits - sum(device.microcredits for device in snapshot.devices)
    grid.add_row(
        Text("● gateway", style="blue"),
        f"{_number(snapshot.gateway_received)} reports on disk,"
        f" {_number(snapshot.gateway_batches)} batches signed,"
        f" {_number(snapshot.gateway_waiting)} on their way,"
        f" {_number(snapshot.receipts_verified)} receipts verified; its share {credits_text(share)}",
    )
    grid.add_row(
        Text("● backend", style="green"),
        f"{_number(snapshot.accepted)} reports accepted, {_number(snapshot.rejected)} rejected,"
        f" {_number(snapshot.telemetry_points)} points stored,"
        f" public log of {_number(snapshot.tree_size)} entries",
    )
    return grid


def render(snapshot: Snapshot, backend_url: str, folder: str, left: str, width: int) -> RenderableType:
    """The whole view for ``width`` columns; ``left`` says how long it goes on."""
    links = Text.assemble(
        ("status page ", "dim"),
        (backend_url + "/", "underline"),
        ("   API ", "dim"),
        (backend_url + "/docs", "underline"),
        ("   logs ", "dim"),
        folder,
    )
    body = Group(
        flow_line(snapshot), Text(), _device_table(snapshot, width >= WIDE), _hosts(snapshot), Text(), links
    )
    return Panel(
        body, title="[bold]Surge[/bold]  every number is real", subtitle=left, box=box.ROUNDED, padding=(1, 2)
    )
