"""Shows the progress of a backfill on standard error."""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from processor.recovery.backfill import Backfilled

PLAIN_INTERVAL = 10.0
"""How often a line is printed without a terminal, in seconds."""


class BackfillProgress:
    """A line that changes on a terminal, or a line at intervals elsewhere. `__enter__` returns the update function.

    How many runs there will be is not known: GitHub lists them window by window.
    """

    def __init__(self) -> None:
        self._plain = not sys.stderr.isatty()
        self._next = time.monotonic() + PLAIN_INTERVAL
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._line = Progress(*columns, console=Console(stderr=True), disable=self._plain)
        self._task = self._line.add_task("asking GitHub", total=None)

    def __enter__(self) -> Callable[[Backfilled], None]:
        self._line.start()
        return self._update

    def __exit__(self, *_error: object) -> None:
        self._line.stop()

    def _update(self, read: Backfilled) -> None:
        reached = datetime.fromtimestamp(read.reached, UTC)
        state = (
            f"{read.repository} ({read.place} of {read.repositories}), {reached:%Y-%m-%d %H:%M} UTC: "
            f"{read.runs} runs, {read.jobs} jobs"
        )
        self._line.update(self._task, description=state)
        if self._plain and time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_INTERVAL
            typer.echo(state, err=True)
