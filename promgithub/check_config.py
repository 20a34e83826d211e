"""`promgithub check-config`: show the settings in effect and every problem in them."""

from typing import Annotated

import typer

from shared import settings

DEFAULT_ROLES = ("ingest", "processor")
"""The roles that share an environment; standalone takes another database."""


def command(
    role: Annotated[
        str | None,
        typer.Argument(help=f"One of {', '.join(settings.ROLES)}; {' and '.join(DEFAULT_ROLES)} unless given."),
    ] = None,
) -> None:
    """Print the settings in effect, and every problem in them. Secrets are masked."""
    if role is not None and role not in settings.ROLES:
        raise typer.BadParameter(f"got {role!r}, takes one of {', '.join(settings.ROLES)}")
    fine = [_show(name) for name in ([role] if role else DEFAULT_ROLES)]
    for warning in settings.unknown_variables():
        typer.echo(f"warning: {warning}")
    if not all(fine):
        raise typer.Exit(1)


def _show(role: str) -> bool:
    """Print what there is to say of a role; return whether it can start."""
    effective, problems = settings.check(settings.ROLES[role])
    typer.echo(f"{role}:")
    for setting in effective:
        typer.echo(f"  {setting.variable} = {setting.value or '(not set)'}  ({setting.source})")
    for problem in problems:
        typer.echo(f"  problem: {problem}")
    return not problems
