"""What a simulation found, for a person and for a machine."""

import json
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from promgithub.simulation.sending import Tally
from promgithub.simulation.truth import Sample
from promgithub.simulation.verdict import Verdict

SHOWN = 20
"""Differences that are shown to a person."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is worth telling. `verdict` is None if there was nothing to compare with."""

    deliveries: int
    sent: int
    tally: Tally
    redelivered: int
    seconds: float
    verdict: Verdict | None

    @property
    def good(self) -> bool:
        """Whether everything was accepted and every figure is true."""
        return not self.tally.refused and not (self.verdict and self.verdict.differences)

    def as_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps(
            {
                "deliveries": self.deliveries,
                "sent": self.sent,
                "duplicates": self.sent - self.deliveries,
                "answers": {str(status): count for status, count in sorted(self.tally.answers.items())},
                "redelivered": self.redelivered,
                "never_accepted": len(self.tally.refused),
                "ack_p50_seconds": round(self.tally.quantile(0.5), 6),
                "ack_p99_seconds": round(self.tally.quantile(0.99), 6),
                "rate_per_second": round(self.sent / self.seconds, 1),
                "figures_compared": self.verdict and self.verdict.compared,
                "differences": [
                    {"name": name, "labels": dict(labels), "expected": expected, "got": got}
                    for (name, labels), (expected, got) in self._differences()
                ],
                "good": self.good,
            }
        )

    def show(self, console: Console) -> None:
        """Print the report as a table, and the first differences."""
        table = Table(title="Simulation", show_header=False)
        answers = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(self.tally.answers.items()))
        p50, p99 = (self.tally.quantile(share) * 1000 for share in (0.5, 0.99))
        table.add_row("deliveries", str(self.deliveries))
        table.add_row("sent", f"{self.sent}, of which {self.sent - self.deliveries} duplicates")
        table.add_row("answers by status", answers)
        table.add_row("redelivered", str(self.redelivered))
        table.add_row("never accepted", str(len(self.tally.refused)))
        table.add_row("ack p50 / p99", f"{p50:.1f} / {p99:.1f} ms")
        table.add_row("rate", f"{self.sent / self.seconds:.0f} deliveries a second")
        table.add_row("figures compared", str(self.verdict.compared) if self.verdict else "none")
        console.print(table)
        differences = self._differences()
        for (name, labels), (expected, got) in differences[:SHOWN]:
            shown = ",".join(f'{label}="{value}"' for label, value in sorted(labels))
            is_now = "is not shown" if got is None else f"is {got:.12g}"
            line = f"{name}{{{shown}}}: must be {expected:.12g}, {is_now}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if (more := len(differences) - SHOWN) > 0:
            console.print(f"and {more} more")
        console.print(self._conclusion(), style="bold green" if self.good else "bold red", highlight=False)

    def _differences(self) -> list[tuple[Sample, tuple[float, float | None]]]:
        return sorted(self.verdict.differences.items(), key=repr) if self.verdict else []

    def _conclusion(self) -> str:
        never = f"{len(self.tally.refused)} deliveries were never accepted. " if self.tally.refused else ""
        if self.verdict is None:
            return f"{never}Nothing was verified: give --metrics to compare every figure with the truth."
        if self.verdict.differences:
            return f"{never}{len(self.verdict.differences)} of {self.verdict.compared} figures differ from the truth."
        return f"{never}All {self.verdict.compared} figures equal the truth."
