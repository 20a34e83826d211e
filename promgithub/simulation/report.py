"""The report of a simulation, as a table or as JSON."""

import json
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from promgithub.simulation.sending import SendingStats
from promgithub.simulation.truth import Sample
from promgithub.simulation.verdict import Difference, Verdict

DIFFERENCES_SHOWN = 20
"""Maximum number of differences in the table."""


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a simulation. `verdict` is None if no metrics page was given."""

    deliveries: int
    sent: int
    stats: SendingStats
    redelivered: int
    seconds: float
    verdict: Verdict | None

    @property
    def good(self) -> bool:
        """Whether every delivery was accepted and every value is as expected."""
        return not self.stats.refused and not (self.verdict and self.verdict.differences)

    def as_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps(
            {
                "deliveries": self.deliveries,
                "sent": self.sent,
                "duplicates": self.sent - self.deliveries,
                "answers": {str(status): count for status, count in sorted(self.stats.answers.items())},
                "redelivered": self.redelivered,
                "never_accepted": len(self.stats.refused),
                "ack_p50_seconds": round(self.stats.quantile(0.5), 6),
                "ack_p99_seconds": round(self.stats.quantile(0.99), 6),
                "rate_per_second": round(self.sent / self.seconds, 1),
                "figures_compared": self.verdict and self.verdict.compared,
                "unsettled": self.verdict and self.verdict.unsettled,
                "differences": [
                    {"name": name, "labels": dict(labels), "expected": one.expected, "got": one.got}
                    for (name, labels), one in self._differences()
                ],
                "good": self.good,
            }
        )

    def show(self, console: Console) -> None:
        """Print the report as a table, and the first differences."""
        table = Table(title="Simulation", show_header=False)
        answers = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(self.stats.answers.items()))
        p50, p99 = (self.stats.quantile(share) * 1000 for share in (0.5, 0.99))
        table.add_row("deliveries", str(self.deliveries))
        table.add_row("sent", f"{self.sent}, of which {self.sent - self.deliveries} duplicates")
        table.add_row("answers by status", answers)
        table.add_row("redelivered", str(self.redelivered))
        table.add_row("never accepted", str(len(self.stats.refused)))
        table.add_row("ack p50 / p99", f"{p50:.1f} / {p99:.1f} ms")
        table.add_row("rate", f"{self.sent / self.seconds:.0f} deliveries a second")
        table.add_row("figures compared", str(self.verdict.compared) if self.verdict else "none")
        console.print(table)
        differences = self._differences()
        for (name, labels), difference in differences[:DIFFERENCES_SHOWN]:
            shown = ",".join(f'{label}="{value}"' for label, value in sorted(labels))
            line = f"{name}{{{shown}}}: {difference}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if (more := len(differences) - DIFFERENCES_SHOWN) > 0:
            console.print(f"and {more} more")
        console.print(self._conclusion(), style="bold green" if self.good else "bold red", highlight=False)

    def _differences(self) -> list[tuple[Sample, Difference]]:
        found = self.verdict.differences if self.verdict else {}
        return sorted(found.items(), key=lambda item: (item[0][0], sorted(item[0][1])))

    def _conclusion(self) -> str:
        never = f"{len(self.stats.refused)} deliveries were never accepted. " if self.stats.refused else ""
        if self.verdict is None:
            return f"{never}Nothing was verified: give --metrics to compare every figure with the truth."
        if self.verdict.differences:
            return f"{never}{len(self.verdict.differences)} of {self.verdict.compared} figures differ from the truth."
        unsettled = (
            f" {self.verdict.unsettled:.0f} increments wait for later news and are not counted yet."
            if self.verdict.unsettled
            else ""
        )
        return f"{never}All {self.verdict.compared} figures equal the truth.{unsettled}"
