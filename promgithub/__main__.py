"""The `promgithub` command."""

from importlib.metadata import version
from typing import Annotated

import typer

from promgithub import (
    check_config,
    copy_store,
    dead_letters,
    ingest,
    migrate,
    processor,
    reconcile,
    redeliver,
    simulate,
    standalone,
)

app = typer.Typer(
    name="promgithub",
    help="GitHub webhooks in, Prometheus metrics about CI out; every accepted delivery is counted exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("standalone")(standalone.command)
app.command("ingest")(ingest.command)
app.command("processor")(processor.command)
app.command("migrate")(migrate.command)
app.command("simulate")(simulate.command)
app.command("copy-store")(copy_store.command)
app.add_typer(dead_letters.app, name="dead-letters")
app.command("redeliver")(redeliver.command)
app.command("reconcile")(reconcile.command)
app.command("check-config")(check_config.command)


@app.callback(invoke_without_command=True)
def about(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """GitHub webhooks in, Prometheus metrics about CI out; every accepted delivery is counted exactly once."""
    if show_version:
        typer.echo(f"promgithub {version('promgithub')}")
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
