"""`promgithub backfill`: read the past from GitHub."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from processor.policy import exposed_catalogue
from processor.recovery.backfill import Backfilled
from processor.recovery.service import PastFile, Recovery
from promgithub.commands.backfill_progress import BackfillProgress
from promgithub.commands.data_directories import DataDir
from promgithub.commands.recovering import duration, repeat, settings_of
from promgithub.commands.running import fail
from shared.errors import PromgithubError, SettingsError
from shared.settings import PREFIX, ProcessorSettings

SAFE_AFTER = timedelta(hours=3)
"""Prometheus may still write blocks for the last hours (Prometheus docs, "Storage": "Backfilling from OpenMetrics
format")."""

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def command(
    repositories: Annotated[
        list[str] | None,
        typer.Argument(metavar="OWNER/REPOSITORY...", help="Repositories to read instead of those of GITHUB_HOOKS."),
    ] = None,
    since: Annotated[
        timedelta,
        typer.Option(
            parser=duration, metavar="DURATION", show_default="30d", help="How far back the runs to read were created."
        ),
    ] = timedelta(days=30),
    output: Annotated[Path, typer.Option(help="The file to write. It must not exist.")] = Path("backfill.txt"),
    data_dir: DataDir = None,
) -> None:
    """Read past runs and jobs from GitHub, for Prometheus.

    Finished ones go into a file for `promtool tsdb create-blocks-from openmetrics`.

    Those that are open go into the queue, and so into the metrics.

    If it is interrupted, run it again: it goes on where it was.
    """
    settings = settings_of(data_dir)
    try:
        _check(repositories or (), settings, output)
        file = PastFile(output, exposed_catalogue(settings), settings.max_series)
    except SettingsError as error:
        fail(error, 2)

    async def once(recovery: Recovery) -> Sequence[PromgithubError]:
        with BackfillProgress() as show:
            read, end = await recovery.backfill(repositories or (), since, file, show)
        _report(read, end, output)
        return read.errors

    repeat(settings, data_dir, None, once)


def _check(repositories: Sequence[str], settings: ProcessorSettings, output: Path) -> None:
    """Raise `SettingsError` if there is nothing to read or nowhere to write."""
    for name in repositories:
        if not _REPOSITORY.fullmatch(name):
            raise SettingsError(f"got {name!r}, takes OWNER/REPOSITORY, such as acme/gears")
    if not repositories and not settings.github_hooks:
        raise SettingsError(f"{PREFIX}GITHUB_HOOKS: not set; takes hooks, or name repositories: OWNER/REPOSITORY")
    if output.exists():
        raise SettingsError(f"{output}: exists; move it away, or name another file with --output")
    if not output.parent.is_dir():
        raise SettingsError(f"{output.parent}: no directory; make it, or name another file with --output")


def _report(read: Backfilled, end: int, output: Path) -> None:
    left_out = f", {read.left_out} left out" if read.left_out else ""
    typer.echo(
        f"{read.runs} runs and {read.jobs} jobs read, {read.opened} of them open{left_out}; {output} is complete"
    )
    for name in read.unseen:
        typer.echo(f"{name}: without the time in the queue; needs the repository permission Checks: read")
    safe = datetime.fromtimestamp(end / 1000, UTC) + SAFE_AFTER
    typer.echo(f"give its blocks to Prometheus after {safe:%Y-%m-%dT%H:%M:%SZ}; docs/backfill.md says how")
