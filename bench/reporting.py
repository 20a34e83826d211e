"""The results as a table and as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.result import Result

_WIDE = 120
"""Width of the table without a terminal, in characters."""


def console() -> Console:
    """Return the console for the table."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=_WIDE)


def show(results: Sequence[Result], output: Console) -> None:
    """Print the table, the contents of each figure, and the number of missed targets."""
    table = Table("measured", "figure", "ceiling", "ratio", "target", "met", title="Benchmarks")
    for column in table.columns[1:4]:
        column.justify = "right"
    for number, result in enumerate(results, 1):
        table.add_row(f"{number}. {result.name}", *_cells(result))
    output.print(table)
    for number, result in enumerate(results, 1):
        details = "".join(f"; {name} {value:,.4g}" for name, value in result.details.items())
        output.print(f"{number}. {result.includes}{details}", markup=False, highlight=False, soft_wrap=True)
    missed = sum(result.met is False for result in results)
    output.print(f"{missed} of {sum(result.met is not None for result in results)} targets missed")


def write(results: Sequence[Result], path: Path) -> None:
    """Write everything as JSON."""
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine,
        "results": [_as_dict(result) for result in results],
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def line(result: Result) -> str:
    """Return a figure in one line."""
    ratio = "" if result.ratio is None else f", {result.ratio:.2f} x the ceiling"
    return f"{result.name}: {_shown(result.measured)} {result.unit}{ratio}"


def _cells(result: Result) -> list[str]:
    met = {None: "", True: "[green]yes[/]", False: "[bold red]no[/]"}[result.met]
    return [
        f"{_shown(result.measured)} {result.unit}",
        "" if result.ceiling is None else _shown(result.ceiling),
        "" if result.ratio is None else f"{result.ratio:.2f}",
        "" if result.target is None else str(result.target),
        met,
    ]


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _as_dict(result: Result) -> dict[str, object]:
    target = None if result.target is None else str(result.target)
    return asdict(result) | {"target": target, "ratio": result.ratio, "met": result.met}
