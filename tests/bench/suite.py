"""Which benches there are, which figures each gives, what each has to reach, and how they become one result.

Place in the flow: ``run_all`` starts the benches and hands over what each printed last; `collect` makes
``build/bench.json`` of it, `rows` the table. Pure. Does not measure, and says nothing about how long a bench
may take.

Rules kept: a bench's last line on stdout is one JSON object; it carries each of its figures under the name
given here, and may carry ``spread``, ``{name: [lowest run, highest run]}``; a figure that wasn't measured is
null, never left out, so that a reader of the file can tell "not measured" from "renamed".
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FORMAT = 1  # of bench.json; rises when a name or its meaning changes


class NoResult(Exception):
    """A bench's output that holds no figures; args[0] says why."""


@dataclass(frozen=True)
class Target:
    """What a figure has to reach."""

    value: float
    at_most: bool = False

    def reached(self, measured: float) -> bool:
        return measured <= self.value if self.at_most else measured >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:,g}"


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    ``sizes``: the figure is an object by number of devices, and each of these has a line; ``targets`` are by
    size, or under "" for a figure that is one number.
    """

    name: str
    unit: str
    yardstick: str
    targets: Mapping[str, Target] | None = None
    sizes: tuple[str, ...] = ()
    note: str = ""

    def target(self, size: str) -> Target | None:
        return (self.targets or {}).get(size)


@dataclass(frozen=True)
class Bench:
    """A file beside this one. ``quick`` are the arguments for a short look; ``by_name_only`` ones chose a
    part of Surge once, and aren't measured at every run."""

    name: str
    figures: tuple[Figure, ...]
    quick: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    by_name_only: bool = False


GROWTH = ("100", "1000", "10000")

BENCHES = (
    Bench(
        "gateway_ingest",
        (
            Figure("gateway_ratio", "×", "paho-mqtt's bare receive loop", {"": Target(0.6)}),
            Figure("gateway_ratio_by_devices", "×", "paho-mqtt's bare receive loop", sizes=GROWTH),
        ),
        arguments=("--growth", *GROWTH),
        quick=("--runs", "1", "--reports", "10000", "--growth", "100"),
    ),
    Bench(
        "backend_ingest",
        (
            Figure("backend_ratio", "×", "bare cbor2.loads and hmac.digest", {"": Target(0.25)}),
            Figure("backend_ratio_by_devices", "×", "bare cbor2.loads and hmac.digest", sizes=GROWTH),
        ),
        quick=("--runs", "1", "--reports", "2000"),
    ),
    Bench(
        "credit_latency",
        (
            Figure("credit_latency_p50_s", "s", "none: wall time at 1,000 reports/s"),
            Figure("credit_latency_p99_s", "s", "none: wall time", {"": Target(1.5, at_most=True)}),
            Figure("credit_latency_flood_p50_s", "s", "none: wall time, beside 10 devices that flood"),
            Figure("credit_latency_flood_p99_s", "s", "none: wall time, beside 10 devices that flood"),
        ),
        quick=("--seconds", "5"),
    ),
    Bench(
        "gateway_memory",
        (
            Figure(
                "gateway_rss_mib",
                "MiB",
                "none: resident memory",
                {"10000": Target(150, at_most=True)},
                sizes=("1000", "10000"),
            ),
        ),
        quick=("--devices", "1000", "--rounds", "3"),
    ),
    Bench(
        "device_report",
        (
            Figure("device_report_us", "µs", "SHA-256 of 4 KiB in the same MicroPython"),
            Figure("device_report_bytes_allocated", "bytes", "none: counted"),
        ),
        quick=("--rounds", "20", "--runs", "1"),
    ),
    Bench("verify_export", (Figure("verify_reports_per_s", "1/s", "bare cbor2.loads and hmac.digest"),)),
    Bench("log_append", (Figure("log_append_per_s", "1/s", "none: fsynced leaves", {"": Target(1500)}),)),
    Bench("ingress_clients", (), by_name_only=True),
    Bench("telemetry_stores", (), by_name_only=True),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one bench: its JSON, or why there is none."""

    bench: Bench
    seconds: float
    result: Mapping[str, Any] | None
    failure: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table, in words. ``reached`` is None where there is no target."""

    name: str
    measured: str
    unit: str
    target: str
    reached: bool | None
    yardstick: str
    spread: str


def find(names: Iterable[str]) -> list[Bench]:
    """The benches of these names, in the suite's order; all that aren't by name only, without names.

    Raises KeyError with the first unknown name.
    """
    wanted = list(names)
    known = {bench.name for bench in BENCHES}
    for name in wanted:
        if name not in known:
            raise KeyError(name)
    return [bench for bench in BENCHES if (bench.name in wanted if wanted else not bench.by_name_only)]


def parse_output(bench: Bench, stdout: str) -> dict[str, Any]:
    """The JSON object of the last line, with a number for every figure. Raises NoResult."""
    lines = [line for line in stdout.splitlines() if line.strip()]
    if not lines:
        raise NoResult("it printed nothing")
    try:
        result = json.loads(lines[-1])
    except ValueError:
        raise NoResult("its last line isn't JSON") from None
    if not isinstance(result, dict):
        raise NoResult("its last line isn't a JSON object")
    for figure in bench.figures:
        value = result.get(figure.name)
        values = list(value.values()) if figure.sizes and isinstance(value, dict) else [value]
        if not values or not all(_is_number(each) for each in values):
            raise NoResult(f"its last line has no number for {figure.name}")
    return result


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def collect(outcomes: Iterable[Outcome], about: Mapping[str, Any]) -> dict[str, Any]:
    """The content of bench.json. ``about``: machine, revision, versions."""
    by_name = {outcome.bench.name: outcome for outcome in outcomes}
    document: dict[str, Any] = {"format": FORMAT}
    spread: dict[str, Any] = {}
    reached: dict[str, bool] = {}
    for bench in BENCHES:
        outcome = by_name.get(bench.name)
        result = (outcome.result if outcome else None) or {}
        for figure in bench.figures:
            document[figure.name] = result.get(figure.name)
            if figure.name in result.get("spread", {}):
                spread[figure.name] = result["spread"][figure.name]
            for size in figure.targets or ():
                measured = _measured(result, figure, size)
                target = figure.target(size)
                if measured is not None and target is not None:
                    reached[figure.name + (f"/{size}" if size else "")] = target.reached(measured)
    document |= {
        "reached": reached,
        "spread": spread,
        "failed": {name: outcome.failure for name, outcome in by_name.items() if outcome.failure},
        "seconds": {name: round(outcome.seconds, 1) for name, outcome in by_name.items()},
        **about,
        "benches": {name: outcome.result for name, outcome in by_name.items() if outcome.result is not None},
    }
    return document


def rows(outcomes: Iterable[Outcome]) -> list[Row]:
    """The table's lines: one for each figure and size of the benches that ran."""
    found = []
    for outcome in outcomes:
        for figure in outcome.bench.figures:
            for size in figure.sizes or ("",):
                found.append(_row(outcome, figure, size))
    return found


def _row(outcome: Outcome, figure: Figure, size: str) -> Row:
    name = figure.name.removesuffix("_by_devices") + (f", {int(size):,} devices" if size else "")
    target = figure.target(size)
    measured = _measured(outcome.result or {}, figure, size)
    if measured is None:
        shown = "failed" if outcome.failure else "not measured"
        return Row(
            name, shown, figure.unit, str(target or ""), False if target else None, figure.yardstick, ""
        )
    spread = (outcome.result or {}).get("spread", {}).get(figure.name)
    if size and isinstance(spread, dict):
        spread = spread.get(size)
    return Row(
        name,
        show_number(measured),
        figure.unit,
        str(target or ""),
        target.reached(measured) if target else None,
        figure.yardstick,
        f"{show_number(spread[0])} to {show_number(spread[1])}" if isinstance(spread, list) else "",
    )


def _measured(result: Mapping[str, Any], figure: Figure, size: str) -> float | None:
    value = result.get(figure.name)
    if size:
        value = value.get(size) if isinstance(value, dict) else None
    return value if _is_number(value) else None


def show_number(value: float) -> str:
    """Three digits that matter, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
