"""`promgithub check-config`: show the settings in effect and every problem in them."""

from typing import Annotated

import typer

from shared import settings
from shared.errors import SettingsError


def command(
    role: Annotated[
        str | None, typer.Argument(help=f"One of {', '.join(settings.ROLES)}; all of them unless given.")
    ] = None,
) -> None:
    """Print the settings in effect, secrets masked, and every problem found in them."""
    if role is not None and role not in settings.ROLES:
        raise typer.BadParameter(f"got {role!r}, takes one of {', '.join(settings.ROLES)}")
    problems = False
    for name, declared in settings.ROLES.items():
        if role in {None, name}:
            problems |= not _show(name, declared)
    for warning in settings.unknown_variables():
        typer.echo(f"warning: {warning}")
    if problems:
        raise typer.Exit(1)


def _show(role: str, declared: type[settings.CommonSettings]) -> bool:
    typer.echo(f"{role}:")
    try:
        loaded = settings.load(declared)
    except SettingsError as error:
        for line in str(error).splitlines():
            typer.echo(f"  problem: {line}")
        return False
    for setting in settings.effective(loaded):
        typer.echo(f"  {setting.variable} = {setting.value or '(not set)'}  ({setting.source})")
    return True
