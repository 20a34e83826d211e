"""`python -m bench [NAME…]`: measure, print a table, and write `bench/results.json`."""

import asyncio
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from yarl import URL

from bench import reporting
from bench.bench_progress import BenchProgress
from bench.measurements import MEASUREMENTS, Measurement, against
from bench.orders import SECRET
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
    rival: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="URL",
            help="Measure only this: the webhook of another exporter, under the same load as promgithub's.",
        ),
    ] = None,
    rival_secret: Annotated[
        str, typer.Option("--against-secret", metavar="SECRET", help="The secret of its signatures.")
    ] = SECRET,
    output: Annotated[Path, typer.Option("--json", help="File to write the results to.")] = _RESULTS_FILE,
) -> None:
    """Measure speed and size on this machine, and the ceilings in the same run."""
    if show_list:
        for name, measurement in MEASUREMENTS.items():
            typer.echo(f"{name:14}{(measurement.__doc__ or '').splitlines()[0]}")
        return
    logs.configure("warning", "text")
    measurements = MEASUREMENTS
    if rival is not None:
        measurements = {"against": partial(against.measure, rival=_racer(rival, rival_secret))}
    chosen = names or list(measurements)
    if unknown := [name for name in chosen if name not in measurements]:
        raise typer.BadParameter(f"got {', '.join(unknown)}, takes {', '.join(measurements)}")
    scale = Scale(tracked_rows, sustained_seconds, sustained_rate)
    try:
        results = asyncio.run(_measure({name: measurements[name] for name in chosen}, scale))
    except ServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    reporting.show(results, reporting.console())
    reporting.write(results, output)


def _racer(url: str, secret: str) -> against.Racer:
    try:
        usable = URL(url).scheme == "http" and URL(url).host
    except ValueError:  # invalid brackets or port
        usable = False
    if not usable:
        raise typer.BadParameter(
            f"got {url!r}, takes a URL such as http://localhost:8080/webhook", param_hint="--against"
        )
    return against.Racer(url, secret)


async def _measure(measurements: Mapping[str, Measurement], scale: Scale) -> list[Result]:
    results = []
    with (
        tempfile.TemporaryDirectory(prefix="promgithub-bench-") as directory,
        BenchProgress(len(measurements)) as progress,
    ):
        async with Stage(Path(directory), scale, progress.tell) as stage:
            for name, measure in measurements.items():
                progress.begin(name)
                async for result in measure(stage):
                    progress.found(result)
                    results.append(result)
                progress.end()
    return results


if __name__ == "__main__":
    typer.run(main)
