"""What `redeliver` and `reconcile` have in common: the store, the queue, GitHub's API, and doing it again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry

from processor.app import own_name
from processor.recovery.client import GitHub
from processor.recovery.metrics import RecoveryMetrics
from processor.recovery.service import Recovery, Surroundings, check_configured
from processor.store import Store
from processor.store.engine import create_engine, describe, is_failure
from processor.store.migrate import migrate
from promgithub.broker import rabbit_broker
from promgithub.running import load_or_exit, run, say
from promgithub.standalone import SPOOL, in_directory
from shared import logs
from shared.broker import Publisher
from shared.errors import BrokerUnavailable, PromgithubError, RecoveryError, SettingsError, StoreError
from shared.settings import ProcessorSettings, StandaloneStoreSettings, parse_duration
from shared.spool import spool_publisher
from shared.waiting import is_set_within, unless

CONNECT_SECONDS = 10.0
"""How long RabbitMQ is waited for."""


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError:
        raise typer.BadParameter(f"got {text!r}, takes a number and a unit s, m, h or d, such as 5m") from None


DataDir = Annotated[
    Path | None,
    typer.Option(help="Data directory of a standalone promgithub, running or stopped, instead of the servers."),
]
Every = Annotated[
    timedelta | None,
    typer.Option(parser=_duration, metavar="DURATION", help="Do it again and again, so long after the last time."),
]


def settings_of(data_dir: Path | None) -> ProcessorSettings:
    """Return the settings of the processor beside which a command works, or exit with a line for each problem."""
    if data_dir is None:
        settings = load_or_exit(ProcessorSettings)
    else:
        settings = in_directory(load_or_exit(StandaloneStoreSettings), data_dir)
    logs.configure(settings.log_level, settings.log_format)
    return settings


def repeat(
    settings: ProcessorSettings,
    data_dir: Path | None,
    every: timedelta | None,
    once: Callable[[Recovery], Awaitable[Sequence[PromgithubError]]],
) -> None:
    """Do something once and exit with 1 if it had errors, or `every` so long until a signal, whatever the errors."""

    async def main(stop: asyncio.Event) -> None:
        check_configured(settings)
        async with _recovery(settings, data_dir) as recovery:
            while True:
                errors = await unless(stop, _errors(once(recovery)))
                if every is None and errors is None:
                    raise RecoveryError("stopped before the end; what was done until then stays done")
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
    except Exception as error:
        if not is_failure(error):
            raise
        return [StoreError(f"the database failed: {describe(error)}")]


@asynccontextmanager
async def _recovery(settings: ProcessorSettings, data_dir: Path | None) -> AsyncIterator[Recovery]:
    url = settings.database_url.get_secret_value()
    if data_dir is not None and not (data_dir / SPOOL).is_dir():
        raise SettingsError(f"{data_dir}: no standalone promgithub has run here")
    store = Store(engine := create_engine(url, connections=3, application="promgithub-recovery"), settings.max_series)
    try:
        async with _publisher(settings, data_dir) as publisher:
            try:
                await migrate(engine)
            except Exception as error:
                if not is_failure(error):
                    raise
                raise StoreError(f"the database cannot be used: {describe(error)}") from error
            async with GitHub(settings, RecoveryMetrics(CollectorRegistry())) as github:
                yield Recovery(Surroundings(settings, store, publisher, own_name()), github)
    finally:
        await store.close()


@asynccontextmanager
async def _publisher(settings: ProcessorSettings, data_dir: Path | None) -> AsyncIterator[Publisher]:
    if data_dir is not None:
        async with spool_publisher(data_dir / SPOOL, settings.event_queue_size) as spool:
            yield spool
        return
    broker = rabbit_broker(settings, "recovery")
    try:
        await broker.start()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                while not broker.available:  # noqa: ASYNC110 - the interface has no event for it
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise BrokerUnavailable(f"no connection to RabbitMQ in {CONNECT_SECONDS:.0f} s") from None
        yield broker
    finally:
        await broker.close()
