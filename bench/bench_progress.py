"""Shows the progress of the benchmarks on standard error."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import reporting
from bench.result import Result


class BenchProgress:
    """A progress bar on a terminal, or a line at each step elsewhere."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True)
        self._began = time.monotonic()
        self._name = ""
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> "BenchProgress":
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def begin(self, name: str) -> None:
        """Show that a measurement begins."""
        self._name = name
        self.tell("")

    def end(self) -> None:
        """Show that a measurement has ended."""
        self._bar.advance(self._task)

    def found(self, result: Result) -> None:
        """Show a figure at once, so that it is visible even if the run is interrupted before the table."""
        self._console.print(reporting.line(result), markup=False, highlight=False, soft_wrap=True)

    def tell(self, step: str) -> None:
        """Show the current step."""
        text = f"{self._name}: {step}" if step else self._name
        self._bar.update(self._task, description=text)
        if self._bar.disable:
            self._console.print(
                f"{time.monotonic() - self._began:5.0f} s  {text}", markup=False, highlight=False, soft_wrap=True
            )
