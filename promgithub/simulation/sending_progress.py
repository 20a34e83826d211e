"""Shows the progress of sending on standard error."""

import sys
import time
from collections.abc import Callable

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from promgithub.simulation.sending import SendingStats

BAR_INTERVAL = 0.2
"""How often the progress bar is updated, in seconds."""

PLAIN_INTERVAL = 2.0
"""How often a line is printed without a terminal, in seconds."""

LATEST = 1000
"""Number of latest answers whose latencies are shown. Sorting all of them at each update would delay the sending."""


class SendingProgress:
    """A progress bar on a terminal, or a line at intervals elsewhere. `__enter__` returns the update function."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._plain = not sys.stderr.isatty()
        self._interval = PLAIN_INTERVAL if self._plain else BAR_INTERVAL
        self._began = time.monotonic()
        self._next = self._began + self._interval
        self._bar = Progress(
            TextColumn("sending"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=Console(stderr=True),
            disable=self._plain,
        )
        self._task = self._bar.add_task("sending", total=total, state="")

    def __enter__(self) -> Callable[[SendingStats], None]:
        self._bar.start()
        return self._update

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def _update(self, stats: SendingStats) -> None:
        answered = len(stats.latencies)
        if time.monotonic() < self._next and answered < self._total:
            return
        self._next = time.monotonic() + self._interval
        p50, p99 = (stats.quantile(share, LATEST) * 1000 for share in (0.5, 0.99))
        rate = answered / (time.monotonic() - self._began)
        answers = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(stats.answers.items()))
        state = f"{rate:.0f}/s, answers {answers or 'none yet'}, ack p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        self._bar.update(self._task, completed=answered, state=state)
        if self._plain:
            typer.echo(f"{answered} of {self._total}: {state}", err=True)
