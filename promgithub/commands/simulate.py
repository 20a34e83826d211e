"""`promgithub simulate`: send the deliveries of a simulated CI, and check every metric."""

import asyncio
import math
import time
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import aiohttp
import typer
from rich.console import Console

from promgithub.commands.running import run
from promgithub.simulation.histories import Historian
from promgithub.simulation.report import Report
from promgithub.simulation.sending import CONNECTIONS, Sender, arrange
from promgithub.simulation.sending_progress import SendingProgress
from promgithub.simulation.verdict import Pages
from shared.errors import SimulationError
from shared.waiting import unless


def command(  # noqa: PLR0917 - an option each
    url: Annotated[str, typer.Argument(metavar="URL", help="URL of the webhook, such as http://host:8080/webhook")],
    secret: Annotated[
        str, typer.Option(envvar="PROMGITHUB_WEBHOOK_SECRET", help="The webhook's secret.", show_default=False)
    ] = "",
    secret_file: Annotated[
        Path | None,
        typer.Option(envvar="PROMGITHUB_WEBHOOK_SECRET_FILE", help="A file whose first line is the secret."),
    ] = None,
    metrics: Annotated[
        list[str] | None, typer.Option(help="Metrics page to check; give one for each processor.")
    ] = None,
    deliveries: Annotated[
        int, typer.Option(min=1, max=200_000, help="Number of different deliveries; each needs 11 kB of memory.")
    ] = 1000,
    rate: Annotated[float, typer.Option(min=0.1, help="Deliveries per second.")] = 200,
    burst: Annotated[int, typer.Option(min=0, help="Number of deliveries that are sent at once at the start.")] = 0,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share of deliveries that is sent twice.")] = 0.05,
    disorder: Annotated[
        float, typer.Option(min=0, max=1, help="Maximum displacement of a delivery, as a share of all deliveries.")
    ] = 0.02,
    seed: Annotated[int, typer.Option(help="The same seed gives the same history, except times and IDs.")] = 1,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds to wait for redelivery, and again for the metrics.")
    ] = 60,
    settled: Annotated[
        bool, typer.Option("--settled", help="Wait until promgithub_unsettled is 0, and check the final values.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Send simulated deliveries, and check every metric.

    The deliveries are signed, out of order, and some are duplicates. The metrics keep the simulated increments.

    Some increments are counted only after PROMGITHUB_GRACE. While promgithub_unsettled is above 0, they may be missing.

    Exits with 1 if a value differs or a delivery was never accepted.
    """
    secret = secret or (_first_line(secret_file) if secret_file else "")
    if not secret:
        raise typer.BadParameter("takes the webhook's secret, or PROMGITHUB_WEBHOOK_SECRET", param_hint="--secret")
    if not all(map(math.isfinite, (rate, duplicates, disorder, timeout))):
        raise typer.BadParameter("--rate, --duplicates, --disorder and --timeout take a finite number")
    if settled and not metrics:
        raise typer.BadParameter("takes --metrics, the pages to check", param_hint="--settled")
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
                stats = await sender.play(order, rate, burst, progress)
            seconds = time.perf_counter() - began
            redelivered = await sender.redeliver(stats, timeout)
            verdict = await shown.drained(before, history.truth, timeout, settled=settled) if before else None
            return Report(deliveries, len(order), stats, redelivered, seconds, verdict)

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
    except ValueError:  # invalid brackets or port
        usable = False
    if not usable:
        raise typer.BadParameter(f"got {url!r}, takes a URL such as http://localhost:8080{path}")
    return url if parts.path not in {"", "/"} else url.rstrip("/") + path
