"""`promgithub simulate`: send a made-up history of CI and prove that every figure is true."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import aiohttp
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from promgithub.running import run
from promgithub.simulation.histories import Historian
from promgithub.simulation.report import Report
from promgithub.simulation.sending import CONNECTIONS, GITHUB_TIMEOUT, Sender, Tally, arrange
from promgithub.simulation.truth import Figures, differences, growth, read
from shared.delivery import Delivery
from shared.errors import PromgithubError

SETTLED = 10.0
"""Seconds without a change after which figures that differ are taken to be final."""

POLL = 0.5
"""Seconds between looks at the metrics while the pipeline drains."""

BAR_INTERVAL = 0.2
"""Seconds between updates of the progress bar."""

PLAIN_INTERVAL = 2.0
"""Seconds between lines of progress where there is no terminal."""

LEADER = "promgithub_exporter_leader 1.0"


class SimulationError(PromgithubError):
    """The simulation cannot be played; the text says why."""


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
    deliveries: Annotated[int, typer.Option(min=1, max=10_000_000, help="Different deliveries.")] = 1000,
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
    """Play a history of CI as signed deliveries, with duplicates and disorder, and compare every figure with the truth.

    Exits with 1 if a figure differs or a delivery was never accepted.
    """
    secret = secret or (_first_line(secret_file) if secret_file else "")
    if not secret:
        raise typer.BadParameter("takes the webhook's secret, or PROMGITHUB_WEBHOOK_SECRET", param_hint="--secret")
    history = Historian(seed).history(deliveries)
    order = arrange(history.deliveries, duplicates, disorder, seed)
    pages = [_with_path(page, "/metrics") for page in metrics or ()]
    reports: list[Report] = []

    async def main(_stop: asyncio.Event) -> None:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        patience = aiohttp.ClientTimeout(total=None, sock_connect=GITHUB_TIMEOUT, sock_read=GITHUB_TIMEOUT)
        async with aiohttp.ClientSession(connector=connector, timeout=patience) as client:
            sender = Sender(client, _with_path(url, "/webhook"), secret)
            before = await _figures(client, pages)
            await _check(sender, order[0])
            began = time.perf_counter()
            with _Progress(len(order)) as progress:
                tally = await sender.play(order, rate, burst, progress)
            seconds = time.perf_counter() - began
            redelivered = await sender.redeliver(tally, timeout)
            grown = await _drained(client, pages, before, history.truth.figures, timeout)
            wrong = differences(history.truth.figures, grown) if pages else {}
            compared = len({*history.truth.figures, *grown}) if pages else None
            reports.append(Report(deliveries, len(order), tally, redelivered, seconds, compared, wrong))

    run(main)
    (report,) = reports
    if as_json:
        typer.echo(report.as_json())
    else:
        report.show(Console())
    if not report.good:
        raise typer.Exit(1)


class _Progress:
    """A bar on a terminal, a line now and then elsewhere; on standard error."""

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

    def __enter__(self) -> Callable[[Tally], None]:
        self._bar.start()
        return self._update

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def _update(self, tally: Tally) -> None:
        answered = len(tally.latencies)
        if time.monotonic() < self._next and answered < self._total:
            return
        self._next = time.monotonic() + self._interval
        p50, p99 = (tally.quantile(share) * 1000 for share in (0.5, 0.99))
        rate = answered / (time.monotonic() - self._began)
        answers = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(tally.answers.items()))
        state = f"{rate:.0f}/s, answers {answers}, ack p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        self._bar.update(self._task, completed=answered, state=state)
        if self._plain:
            typer.echo(f"{answered} of {self._total}: {state}", err=True)


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} cannot be read ({error})", param_hint="--secret-file") from None
    return lines[0].strip() if lines else ""


def _with_path(url: str, path: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise typer.BadParameter(f"got {url!r}, takes a URL such as http://localhost:8080{path}")
    return url if parts.path not in {"", "/"} else url.rstrip("/") + path


async def _check(sender: Sender, delivery: Delivery) -> None:
    """Send the first delivery once before the others (it counts once): a wrong URL or secret is found at once."""
    try:
        status = await sender.try_first(delivery)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise SimulationError(f"the webhook cannot be reached ({error or type(error).__name__})") from None
    if status == 401:
        raise SimulationError("the receiver does not accept the secret (401); takes the one that it was started with")
    if status in {404, 405}:
        raise SimulationError(f"there is no webhook at that URL ({status}); takes http://host:8080/webhook")


async def _figures(client: aiohttp.ClientSession, pages: Sequence[str]) -> Figures:
    texts = []
    for page in pages:
        try:
            async with client.get(page) as answer:
                answer.raise_for_status()
                texts.append(await answer.text())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise SimulationError(f"{page}: cannot be read ({error or type(error).__name__})") from None
    if pages and not any(LEADER in text for text in texts):
        raise SimulationError("no processor at --metrics exposes figures about CI; give the pages of all processors")
    return read(texts)


async def _drained(
    client: aiohttp.ClientSession, pages: Sequence[str], before: Figures, truth: Figures, seconds: float
) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
    """Wait until the figures have grown by the truth, or change no more, at most so many seconds; return the growth."""
    grown: Figures = {}
    deadline = time.monotonic() + seconds
    changed_at = time.monotonic()
    while pages and time.monotonic() < min(deadline, changed_at + SETTLED):
        latest = growth(before, await _figures(client, pages))
        if latest != grown:
            grown, changed_at = latest, time.monotonic()
        if not differences(truth, grown):
            break
        await asyncio.sleep(POLL)
    return dict(grown)
