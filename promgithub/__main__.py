"""The `promgithub` command."""

from importlib.metadata import version
from typing import Annotated

import typer

from promgithub.lazy_commands import HELP_OPTIONS, LazyGroup

app = typer.Typer(
    name="promgithub",
    cls=LazyGroup,
    help="Counts GitHub's webhook deliveries exactly once, and exposes Prometheus metrics about CI.",
    no_args_is_help=True,
    context_settings=HELP_OPTIONS,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def about(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Counts GitHub's webhook deliveries exactly once, and exposes Prometheus metrics about CI."""
    if show_version:
        typer.echo(f"promgithub {version('promgithub')}")
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
