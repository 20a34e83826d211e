"""Code common to `redeliver`, `reconcile` and `backfill`: the store, the publisher, GitHub's API, and repetition."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry

from processor.app import own_name
from processor.policy import policy_of
from processor.recovery.client import GitHub, check_configured
from processor.recovery.recovery_metrics import RecoveryMetrics
from processor.recovery.service import Recovery, RecoveryContext
from processor.store import Store
from processor.store.engine import create_engine
from processor.store.migrating import migrate
from promgithub.commands.data_directories import SPOOL, store_settings
from promgithub.commands.running import run, say
from shared import logs
from shared.brokers.choice import command_publisher
from shared.errors import PromgithubError, RecoveryError, SettingsError
from shared.settings import ProcessorSettings, parse_duration
from shared.waiting import is_set_within, unless


def duration(text: str) -> timedelta:
    """Parse the value of an option. Raises `typer.BadParameter`."""
    try:
        return parse_duration(text)
    except ValueError:
        raise typer.BadParameter(f"got {text!r}, takes a number and a unit s, m, h or d, such as 5m") from None


RepeatEvery = Annotated[
    timedelta | None,
    typer.Option(parser=duration, metavar="DURATION", help="Repeat, with this pause after each run."),
]


def settings_of(data_dir: Path | None) -> ProcessorSettings:
    """Return the settings of the processor whose store and queue the command uses, or exit with a line per problem."""
    settings = store_settings(data_dir)
    logs.configure(settings.log_level, settings.log_format)
    return settings


def repeat(
    settings: ProcessorSettings,
    data_dir: Path | None,
    every: timedelta | None,
    once: Callable[[Recovery], Awaitable[Sequence[PromgithubError]]],
) -> None:
    """Run `once` and exit with 1 after errors. With `every`, repeat it with this pause until a signal."""

    async def main(stop: asyncio.Event) -> None:
        check_configured(settings)
        async with _recovery(settings, data_dir) as recovery:
            while True:
                errors = await unless(stop, _errors(once(recovery)))
                if every is None and errors is None:
                    raise RecoveryError("stopped before the end; work done so far is kept")
                if every is None and errors:
                    raise ExceptionGroup("recovery", errors)
                for error in errors or ():
                    say(error)
                if every is None or await is_set_within(stop, every.total_seconds()):
                    return

    run(main)


async def _errors(work: Awaitable[Sequence[PromgithubError]]) -> list[PromgithubError]:
    try:
        return list(await work)
    except SettingsError:
        raise
    except PromgithubError as error:
        return [error]


@asynccontextmanager
async def _recovery(settings: ProcessorSettings, data_dir: Path | None) -> AsyncIterator[Recovery]:
    url = settings.database_url.get_secret_value()
    if data_dir is not None and not (data_dir / SPOOL).is_dir():
        raise SettingsError(f"{data_dir}: no standalone promgithub has run here")
    engine = create_engine(url, connections=3, application="promgithub-recovery")
    store = Store(engine, settings.max_series, hold=settings.new_series_seconds > 0)
    try:
        spool_dir = data_dir / SPOOL if data_dir else None
        async with command_publisher(settings, "recovery", spool_dir) as publisher:
            await migrate(engine)
            async with GitHub(settings, RecoveryMetrics(CollectorRegistry())) as github:
                yield Recovery(RecoveryContext(settings, policy_of(settings), store, publisher, own_name()), github)
    finally:
        await store.close()
