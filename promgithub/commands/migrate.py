"""`promgithub migrate`: migrate the database's schema to this release."""

import asyncio

import typer

from processor.store.engine import create_engine
from processor.store.migrating import migrate
from promgithub.commands.running import load_or_exit, run
from shared.errors import StoreError, StoreUnavailable
from shared.settings import ProcessorSettings
from shared.waiting import unless


def command() -> None:
    """Migrate the database's schema to this release. `promgithub processor` does the same when it starts."""
    settings = load_or_exit(ProcessorSettings)

    async def main(stop: asyncio.Event) -> None:
        engine = create_engine(
            settings.database_url.get_secret_value(), connections=1, application="promgithub-migrate"
        )
        try:
            revisions = await unless(stop, migrate(engine))
        except StoreUnavailable as error:
            raise StoreError(f"the database cannot be migrated: {error}; look at PROMGITHUB_DATABASE_URL") from error
        finally:
            await engine.dispose()
        if revisions is None:
            raise StoreError("stopped before the end; the migration was rolled back, so run it again")
        before, after = revisions
        if before == after:
            typer.echo(f"already at revision {after}")
        else:
            typer.echo(f"migrated to revision {after}" + (f" from {before}" if before else ""))

    run(main)
