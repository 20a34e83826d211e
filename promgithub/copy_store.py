"""`promgithub copy-store`: take what a standalone promgithub has counted along to PostgreSQL."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from processor.store.copying import copy
from processor.store.engine import create_engine, describe, is_failure
from processor.store.migrate import migrate
from promgithub.running import load_or_exit, run
from promgithub.standalone import SPOOL, in_directory
from shared.errors import StoreError
from shared.settings import ProcessorSettings, StandaloneStoreSettings
from shared.spool import SpoolBroker


def command(
    data_dir: Annotated[Path, typer.Option(help="Data directory of the standalone promgithub, which must be stopped.")],
) -> None:
    """Copy what standalone has counted into PostgreSQL.

    The database that PROMGITHUB_DATABASE_URL names must be empty.
    """
    target_url = load_or_exit(ProcessorSettings).database_url.get_secret_value()
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
    """Make sure that nothing runs on the directory, and that nothing in it is still to be counted."""
    if not (data_dir / SPOOL).is_dir():
        raise StoreError(f"{data_dir}: no standalone promgithub has run here")
    spool = SpoolBroker(data_dir / SPOOL, size=1, delivery_limit=1)
    await spool.start()
    try:
        if spool.deliveries:
            raise StoreError(
                f"{data_dir}: {spool.deliveries} deliveries are not counted yet; "
                "run `promgithub standalone` until promgithub_event_queue_depth is 0, and stop it"
            )
        if dead := (await spool.depths()).dead_letters:
            typer.echo(f"{data_dir}: {dead} dead letters stay where they are", err=True)
    finally:
        await spool.close()


async def _copy(source: AsyncEngine, target: AsyncEngine) -> None:
    try:
        await migrate(source)
        await migrate(target)
        async for table, rows in copy(source, target):
            typer.echo(f"{table}: {rows}")
    except Exception as error:
        if not is_failure(error):
            raise
        raise StoreError(f"the store cannot be copied: {describe(error)}; look at PROMGITHUB_DATABASE_URL") from error
