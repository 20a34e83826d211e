"""`promgithub migrate`: bring the database's schema up to date."""

import asyncio

import typer

from processor.store.engine import create_engine, describe, is_failure
from processor.store.migrate import migrate
from promgithub.running import load_or_exit, run
from shared.errors import StoreError
from shared.settings import ProcessorSettings


def command() -> None:
    """Bring the database's schema up to date. `promgithub processor` does the same when it starts."""
    settings = load_or_exit(ProcessorSettings)

    async def main(_stop: asyncio.Event) -> None:
        engine = create_engine(
            settings.database_url.get_secret_value(), connections=1, application="promgithub-migrate"
        )
        try:
            before, after = await migrate(engine)
        except Exception as error:
            if not is_failure(error):
                raise
            raise StoreError(
                f"the database cannot be migrated: {describe(error)}; look at PROMGITHUB_DATABASE_URL"
            ) from error
        finally:
            await engine.dispose()
        if before == after:
            typer.echo(f"already at revision {after}")
        else:
            typer.echo(f"migrated to revision {after}" + (f" from {before}" if before else ""))

    run(main)
