"""`promgithub check-config`: print the effective settings and every problem."""

from typing import Annotated

import typer

from processor.counting.runner_classes import RunnerClasses
from processor.policy import exposed_catalogue, policy_of
from promgithub.commands.runner_table import class_line, table_lines
from promgithub.commands.running import fail
from shared import settings
from shared.errors import SettingsError
from shared.setting_warnings import variables_of_other_roles, warnings

DEFAULT_ROLES = ("ingest", "processor")
"""The roles that are checked by default. They can share an environment; standalone needs another database URL."""


def command(
    role: Annotated[
        str | None,
        typer.Argument(help=f"One of {', '.join(settings.ROLES)}; by default {' and '.join(DEFAULT_ROLES)}."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Print only the runner class of jobs with these labels, separated by commas.")
    ] = None,
) -> None:
    """Print the effective settings, and every problem. Secrets are masked."""
    if labels is not None:
        typer.echo(class_line(settings.split_list(labels), _runners_or_exit()))
        return
    if role is not None and role not in settings.ROLES:
        raise typer.BadParameter(f"got {role!r}, takes one of {', '.join(settings.ROLES)}")
    roles = [role] if role else DEFAULT_ROLES
    fine = [_show(name) for name in roles]
    found = [warning for name in roles for warning in warnings(settings.read(settings.ROLES[name])[0])]
    found += variables_of_other_roles(role) if role else ()
    for warning in dict.fromkeys(found):
        typer.echo(f"warning: {warning}")
    if not all(fine):
        raise typer.Exit(1)


def _show(role: str) -> bool:
    """Print the settings and problems of a role; return whether there are no problems."""
    effective, problems = settings.check(settings.ROLES[role])
    typer.echo(f"{role}:")
    for setting in effective:
        effect = "" if setting.acts else f", no effect in {role}"
        typer.echo(f"  {setting.variable} = {setting.value or '(not set)'}  ({setting.source}{effect})")
    loaded, _ = settings.read(settings.ROLES[role])
    if isinstance(loaded, settings.ProcessorSettings):
        try:
            exposed_catalogue(loaded)
            for line in table_lines(policy_of(loaded).runners):
                typer.echo(f"  {line}")
        except SettingsError as error:
            problems.append(str(error))
    for problem in problems:
        typer.echo(f"  problem: {problem}")
    return not problems


def _runners_or_exit() -> RunnerClasses:
    loaded, _ = settings.read(settings.ProcessorSettings)
    try:
        return policy_of(loaded).runners
    except SettingsError as error:
        fail(error, 2)
