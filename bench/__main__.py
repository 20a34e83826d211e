"""`python -m bench [NAME…]`: measure, print a table, and write `bench/results.json`."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench import reporting
from bench.bench_progress import BenchProgress
from bench.measurements import MEASUREMENTS
from bench.result import Result
from bench.stage import Scale, Stage
from shared import logs
from tests.support.servers.errors import ServerError

_RESULTS_FILE = Path(__file__).with_name("results.json")


def main(
    names: Annotated[list[str] | None, typer.Argument(help="What to measure; everything if none is given.")] = None,
    *,
    show_list: Annotated[bool, typer.Option("--list", help="List what can be measured, and exit.")] = False,
    tracked_rows: Annotated[int, typer.Option(help="Rows in the large store of `tracked`.")] = 5_000_000,
    sustained_seconds: Annotated[float, typer.Option(help="How long `sustained` takes.")] = 120,
    sustained_rate: Annotated[
        float, typer.Option(help="Deliveries per second of `sustained`; 0 is half of what it can do.")
    ] = 0,
    output: Annotated[Path, typer.Option("--json", help="File to write the results to.")] = _RESULTS_FILE,
) -> None:
    """Measure speed and size on this machine, and the ceilings in the same run."""
    if show_list:
        for name, measurement in MEASUREMENTS.items():
            typer.echo(f"{name:14}{(measurement.__doc__ or '').splitlines()[0]}")
        return
    logs.configure("warning", "text")
    chosen = names or list(MEASUREMENTS)
    if unknown := [name for name in chosen if name not in MEASUREMENTS]:
        raise typer.BadParameter(f"got {', '.join(unknown)}, takes {', '.join(MEASUREMENTS)}")
    try:
        results = asyncio.run(_measure(chosen, Scale(tracked_rows, sustained_seconds, sustained_rate)))
    except ServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    reporting.show(results, reporting.console())
    reporting.write(results, output)


async def _measure(names: Sequence[str], scale: Scale) -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory(prefix="promgithub-bench-") as directory, BenchProgress(len(names)) as progress:
        async with Stage(Path(directory), scale, progress.tell) as stage:
            for name in names:
                progress.begin(name)
                async for result in MEASUREMENTS[name](stage):
                    progress.found(result)
                    results.append(result)
                progress.end()
    return results


if __name__ == "__main__":
    typer.run(main)
