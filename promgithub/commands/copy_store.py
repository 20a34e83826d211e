"""`promgithub copy-store`: copy the store of a standalone promgithub to PostgreSQL."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from processor.store.copying import copy
from processor.store.engine import create_engine
from processor.store.migrating import migrate
from promgithub.commands.data_directories import SPOOL, in_directory
from promgithub.commands.running import load_or_exit, run
from shared import logs
from shared.brokers.spool import SpoolBroker
from shared.errors import StoreError, StoreUnavailable
from shared.settings import ProcessorSettings, StandaloneStoreSettings


def command(
    data_dir: Annotated[Path, typer.Option(help="Data directory of the standalone promgithub. It must be stopped.")],
) -> None:
    """Copy the store of a standalone promgithub to PostgreSQL.

    PROMGITHUB_DATABASE_URL is the target database. It must be empty.
    """
    settings = load_or_exit(ProcessorSettings)
    logs.configure(settings.log_level, settings.log_format)
    target_url = settings.database_url.get_secret_value()
    source_url = in_directory(StandaloneStoreSettings.model_construct(), data_dir).database_url.get_secret_value()

    async def main(_stop: asyncio.Event) -> None:
        await _check_drained(data_dir)
        source = create_engine(source_url, connections=1, application="promgithub-copy-store")
        target = create_engine(target_url, connections=1, application="promgithub-copy-store")
        try:
            await _copy(source, target)
        finally:
            await source.dispose()
            await target.dispose()

    run(main)


async def _check_drained(data_dir: Path) -> None:
    """Check that no process uses the directory, and that all deliveries in it are counted."""
    if not (data_dir / SPOOL).is_dir():
        raise StoreError(f"{data_dir}: no standalone promgithub has run here")
    spool = SpoolBroker(data_dir / SPOOL, size=1, delivery_limit=1, max_bytes=1)
    await spool.start()
    try:
        if spool.deliveries:
            raise StoreError(
                f"{data_dir}: {spool.deliveries} deliveries are not counted yet; "
                "run `promgithub standalone` until promgithub_event_queue_depth is 0, and stop it"
            )
        if dead := (await spool.depths()).dead_letters:
            typer.echo(f"{data_dir}: {dead} dead letters are not copied", err=True)
    finally:
        await spool.close()


async def _copy(source: AsyncEngine, target: AsyncEngine) -> None:
    try:
        await migrate(source)
        await migrate(target)
        typer.echo("copying, in one transaction:")
        async for table, rows in copy(source, target):
            typer.echo(f"{table}: {rows}")
        typer.echo("copied; all of it is in the target now")
    except StoreUnavailable as error:
        raise StoreError(f"the store cannot be copied: {error}; look at PROMGITHUB_DATABASE_URL") from error
