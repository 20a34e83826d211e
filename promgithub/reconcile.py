"""`promgithub reconcile`: ask GitHub about what looks stuck."""

from collections.abc import Sequence

import typer

from processor.recovery.service import Recovery
from promgithub.recovering import DataDir, Every, repeat, settings_of
from shared.errors import PromgithubError


def command(every: Every = None, data_dir: DataDir = None) -> None:
    """Ask GitHub about runs and jobs that look stuck.

    Those have been open for RECONCILE_AFTER without news.

    A processor with a token does the same by itself every 10 minutes.
    """

    async def once(recovery: Recovery) -> Sequence[PromgithubError]:
        corrections = await recovery.reconcile()
        typer.echo(
            f"{corrections.asked} asked about, {corrections.corrected} corrected, "
            f"{corrections.deleted.total()} closed as deleted"
        )
        return corrections.errors

    repeat(settings_of(data_dir), data_dir, every, once)
