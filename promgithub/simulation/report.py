"""What a simulation found, for a person and for a machine."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from promgithub.simulation.sending import Tally
from promgithub.simulation.truth import Sample

SHOWN = 20
"""Differences that are shown to a person."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is worth telling. `compared` is None if there was nothing to compare with."""

    deliveries: int
    sent: int
    tally: Tally
    redelivered: int
    seconds: float
    compared: int | None
    differences: Mapping[Sample, tuple[float, float]]

    @property
    def good(self) -> bool:
        """Whether everything was accepted and every figure is true."""
        return not self.tally.refused and not self.differences

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
                "figures_compared": self.compared,
                "differences": [
                    {"name": name, "labels": dict(labels), "expected": expected, "got": got}
                    for (name, labels), (expected, got) in sorted(self.differences.items(), key=repr)
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
        console.print(table)
        for (name, labels), (expected, got) in sorted(self.differences.items(), key=repr)[:SHOWN]:
            shown = ",".join(f'{label}="{value}"' for label, value in sorted(labels))
            console.print(f"{name}{{{shown}}}: must be {expected:g}, is {got:g}", markup=False, highlight=False)
        console.print(self._verdict(), style="bold green" if self.good else "bold red")

    def _verdict(self) -> str:
        if self.compared is None:
            return "Nothing was compared: give --metrics to compare every figure with the truth."
        if self.good:
            return f"All {self.compared} figures equal the truth."
        return f"{len(self.differences)} of {self.compared} figures differ; {len(self.tally.refused)} never accepted."
