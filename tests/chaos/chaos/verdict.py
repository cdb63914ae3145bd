"""What a run came to, as a table for people and as one JSON object.

Place in the flow: the last of ``run_chaos``. Judges nothing: a run is good where ``site`` and ``books`` found
nothing.
"""

from dataclasses import dataclass
from typing import Any, TextIO

from chaos.books import Books
from chaos.torment import Recoveries


@dataclass
class Verdict:
    """``failures`` happened during the run, ``books.violations`` were found after it."""

    failures: list[str]
    books: Books
    recoveries: Recoveries
    peaks: dict[str, int]
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether everything held; a run that checked nothing didn't."""
        return not self.failures and bool(self.books.violations) and not any(self.books.violations.values())

    def as_json(self) -> dict[str, Any]:
        """The last line."""
        return {
            "good": self.good,
            "seconds": round(self.seconds, 1),
            "kills": self.recoveries.kills,
            "deeds": [
                {
                    "victim": role, "deed": deed, "times": times, "hit_again": again,
                    "recovery_median_s": middle, "recovery_max_s": longest,
                }
                for role, deed, times, again, middle, longest in self.recoveries.rows()
            ],
            "reports_acknowledged": self.books.acknowledged,
            "reports_accepted": self.books.accepted,
            "duplicates_refused": self.books.duplicates,
            "batches": self.books.batches,
            "telemetry_points": self.books.points,
            "descriptors_max": self.peaks,
            "log_events": dict(self.books.log_events.most_common()),
            "checks": {name: not found for name, found in self.books.violations.items()},
            "failures": self.failures + [text for found in self.books.violations.values() for text in found],
        }  # fmt: skip


def show(verdict: Verdict, out: TextIO) -> None:
    """For people."""
    lines = ["", f"{'victim':<9}{'deed':<14}{'times':>6}{'hit again':>11}{'median s':>10}{'max s':>8}"]
    for role, deed, times, again, middle, longest in verdict.recoveries.rows():
        said = f"{'':>18}" if middle is None else f"{middle:>10.1f}{longest:>8.1f}"
        lines.append(f"{role:<9}{deed:<14}{times:>6}{again:>11}{said}")
    lines.append("")
    for name, found in verdict.books.violations.items():
        lines.append(f" {'✗' if found else '✓'} {name.replace('_', ' ')}")
        lines += [f"     {text}" for text in found]
    lines += [f" ✗ {text}" for text in verdict.failures]
    books = verdict.books
    lines.append(
        f"\n{verdict.recoveries.kills} kills in {verdict.seconds:.0f} s; {books.acknowledged:,} reports"
        f" acknowledged, {books.accepted:,} accepted, {books.duplicates:,} sent twice and refused once,"
        f" {books.batches:,} batches, {books.points:,} points: {'all agrees' if verdict.good else 'NOT GOOD'}"
    )
    print("\n".join(lines), file=out, flush=True)
