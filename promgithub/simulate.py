"""`promgithub simulate`: send a made-up history of CI and prove that every figure is true."""

import asyncio
import math
import time
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import aiohttp
import typer
from rich.console import Console

from promgithub.running import run
from promgithub.simulation.errors import SimulationError
from promgithub.simulation.histories import Historian
from promgithub.simulation.progress import SendingProgress
from promgithub.simulation.report import Report
from promgithub.simulation.sending import CONNECTIONS, Sender, arrange
from promgithub.simulation.verdict import Pages
from shared.waiting import unless


def command(  # noqa: PLR0917 - an option each
    url: Annotated[str, typer.Argument(help="Where the webhook is: http://host:8080/webhook")],
    secret: Annotated[
        str, typer.Option(envvar="PROMGITHUB_WEBHOOK_SECRET", help="The webhook's secret.", show_default=False)
    ] = "",
    secret_file: Annotated[
        Path | None,
        typer.Option(envvar="PROMGITHUB_WEBHOOK_SECRET_FILE", help="A file whose first line is the secret."),
    ] = None,
    metrics: Annotated[
        list[str] | None, typer.Option(help="Metrics page to compare with the truth; once for each processor.")
    ] = None,
    deliveries: Annotated[
        int, typer.Option(min=1, max=200_000, help="Different deliveries; 11 kB of memory each.")
    ] = 1000,
    rate: Annotated[float, typer.Option(min=0.1, help="Deliveries a second.")] = 200,
    burst: Annotated[int, typer.Option(min=0, help="Deliveries that are sent at once, before the others.")] = 0,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share that is sent twice.")] = 0.05,
    disorder: Annotated[
        float, typer.Option(min=0, max=1, help="How far deliveries are displaced, as a share of their number.")
    ] = 0.02,
    seed: Annotated[int, typer.Option(help="The same seed plays the same history, but for times and ids.")] = 1,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for redelivery, and again to drain.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Send a made-up history of CI, and check every figure.

    Its deliveries are signed, and come with duplicates and in disorder. What they add to the figures stays there.

    Exits with 1 if a figure differs or a delivery was never accepted.
    """
    secret = secret or (_first_line(secret_file) if secret_file else "")
    if not secret:
        raise typer.BadParameter("takes the webhook's secret, or PROMGITHUB_WEBHOOK_SECRET", param_hint="--secret")
    if not all(map(math.isfinite, (rate, duplicates, disorder, timeout))):
        raise typer.BadParameter("--rate, --duplicates, --disorder and --timeout take a finite number")
    webhook = _with_path(url, "/webhook")
    pages = [_with_path(page, "/metrics") for page in metrics or ()]
    history = Historian(seed).history(deliveries)
    order = arrange(history.deliveries, duplicates, disorder, seed)
    reports: list[Report] = []

    async def simulate() -> Report:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as client:
            sender, shown = Sender(client, webhook, secret), Pages(client, pages)
            await sender.check()
            before = await shown.read() if pages else None
            began = time.perf_counter()
            with SendingProgress(len(order)) as progress:
                tally = await sender.play(order, rate, burst, progress)
            seconds = time.perf_counter() - began
            redelivered = await sender.redeliver(tally, timeout)
            verdict = await shown.drained(before, history.truth.figures, timeout) if before else None
            return Report(deliveries, len(order), tally, redelivered, seconds, verdict)

    async def main(stop: asyncio.Event) -> None:
        report = await unless(stop, simulate())
        if report is None:
            raise SimulationError("stopped before the end; nothing was verified")
        reports.append(report)

    run(main)
    (report,) = reports
    if as_json:
        typer.echo(report.as_json())
    else:
        report.show(Console())
    if not report.good:
        raise typer.Exit(1)


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} cannot be read ({error})", param_hint="--secret-file") from None
    return lines[0].strip() if lines else ""


def _with_path(url: str, path: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # brackets or a port that cannot be
        usable = False
    if not usable:
        raise typer.BadParameter(f"got {url!r}, takes a URL such as http://localhost:8080{path}")
    return url if parts.path not in {"", "/"} else url.rstrip("/") + path
