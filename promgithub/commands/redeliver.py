"""`promgithub redeliver`: recover failed deliveries."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from processor.recovery.redelivery import HookOutcome
from processor.recovery.service import Recovery
from promgithub.commands.data_directories import DataDir
from promgithub.commands.recovering import RepeatEvery, repeat, settings_of
from promgithub.commands.running import fail
from shared.errors import PromgithubError, SettingsError
from shared.settings import PREFIX


def command(
    every: RepeatEvery = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be recovered.")] = False,
    via_github: Annotated[
        bool, typer.Option("--via-github", help="Ask GitHub to redeliver, instead of fetching the payloads.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Recover deliveries that GitHub lists as failed.

    Those that were never counted are put into the queue.

    A processor with a token and GITHUB_HOOKS does the same every 5 minutes.
    """
    settings = settings_of(data_dir)
    if not settings.github_hooks:
        fail(SettingsError(f"{PREFIX}GITHUB_HOOKS: not set; takes the hooks whose failed deliveries to recover"), 2)

    async def once(recovery: Recovery) -> Sequence[PromgithubError]:
        outcomes = await recovery.redeliver(dry_run=dry_run, via_github=via_github)
        for outcome in outcomes:
            _show(outcome, dry_run=dry_run, asked=via_github)
        return [outcome.error for outcome in outcomes if outcome.error is not None]

    repeat(settings, data_dir, every, once)


def _show(outcome: HookOutcome, *, dry_run: bool, asked: bool) -> None:
    if outcome.error is not None and not outcome.failed:
        return  # the error is printed later
    if dry_run:
        for failure in outcome.missing:
            when = datetime.fromtimestamp(failure.at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            typer.echo(f"{failure.guid}\t{failure.event}\t{when}")
    done = "would be recovered" if dry_run else "requested" if asked else "recovered"
    count = len(outcome.missing) if dry_run else outcome.recovered
    lost = f", {outcome.lost} cannot be recovered" if outcome.lost else ""
    typer.echo(
        f"{outcome.hook}: {outcome.failed} failed attempts, {len(outcome.missing)} missing, {count} {done}{lost}"
    )
