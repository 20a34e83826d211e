"""What is being measured, while it is: on standard error."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import report
from bench.result import Result


class BenchProgress:
    """A bar on a terminal, a line at each step elsewhere."""

    def __init__(self, total: int) -> None:
        """`total` measurements will be made."""
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
        """Say that a measurement begins."""
        self._name = name
        self.tell("")

    def end(self) -> None:
        """Say that a measurement has ended."""
        self._bar.advance(self._task)

    def found(self, result: Result) -> None:
        """Show a figure before the table does: a run that is cut short has said what it found."""
        self._console.print(report.line(result), markup=False, highlight=False, soft_wrap=True)

    def tell(self, step: str) -> None:
        """Say what is being done."""
        text = f"{self._name}: {step}" if step else self._name
        self._bar.update(self._task, description=text)
        if self._bar.disable:
            self._console.print(
                f"{time.monotonic() - self._began:5.0f} s  {text}", markup=False, highlight=False, soft_wrap=True
            )
