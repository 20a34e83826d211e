"""`promgithub reconcile`: request the states of open runs and jobs from GitHub."""

from collections.abc import Sequence
from typing import Annotated

import typer

from processor.recovery.service import Recovery
from promgithub.commands.data_directories import DataDir
from promgithub.commands.recovering import RepeatEvery, repeat, settings_of
from shared.errors import PromgithubError


def command(
    every: RepeatEvery = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be corrected.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Ask GitHub about open runs and jobs that look stuck.

    Requests their state from GitHub if there was no delivery about them for RECONCILE_AFTER.

    A processor with a token does the same every 10 minutes.
    """

    async def once(recovery: Recovery) -> Sequence[PromgithubError]:
        corrections = await recovery.reconcile(dry_run=dry_run)
        if dry_run:
            for line in corrections.lines:
                typer.echo(line)
        would = "would be " if dry_run else ""
        typer.echo(
            f"{corrections.asked} checked, {corrections.corrected} {would}corrected, "
            f"{corrections.deleted.total()} {would}closed as deleted"
        )
        return corrections.errors

    repeat(settings_of(data_dir), data_dir, every, once)
