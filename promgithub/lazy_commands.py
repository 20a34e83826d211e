"""Commands whose modules are imported only when they are used: a process starts faster, and needs less memory."""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from promgithub.commands.usage import PlainCommand, settings_of_role


@dataclass(frozen=True)
class LazyCommand:
    """A command: the function `command` of a module, or the group `app` if `is_group`.

    If `has_role`, its help names the settings of the role with its name. If `plain`, it shows a required argument as
    `URL`.
    """

    name: str
    module: str
    is_group: bool = False
    has_role: bool = False
    plain: bool = False

    @cached_property
    def loaded(self) -> Any:
        """The command, with its module imported."""
        module = import_module(f"promgithub.commands.{self.module}")
        if self.is_group:
            group = get_command(module.app)
            group.name = self.name
            return group
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        options: dict[str, Any] = {"cls": PlainCommand} if self.plain else {}
        if self.has_role:
            options["epilog"] = settings_of_role(self.name)
        app.command(self.name, context_settings=HELP_OPTIONS, **options)(module.command)
        return get_command(app)


HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
"""The options that show the help."""

COMMANDS = (
    LazyCommand("standalone", "standalone", has_role=True),
    LazyCommand("ingest", "ingest", has_role=True),
    LazyCommand("processor", "processor", has_role=True),
    LazyCommand("migrate", "migrate"),
    LazyCommand("simulate", "simulate", plain=True),
    LazyCommand("status", "status"),
    LazyCommand("copy-store", "copy_store"),
    LazyCommand("dead-letters", "dead_letters", is_group=True),
    LazyCommand("connect", "connect"),
    LazyCommand("hooks", "hooks", is_group=True),
    LazyCommand("redeliver", "redeliver"),
    LazyCommand("reconcile", "reconcile"),
    LazyCommand("backfill", "backfill"),
    LazyCommand("check-config", "check_config"),
)
"""The commands, in the order of the help."""


@dataclass(frozen=True)
class _Loading(Mapping[str, Any]):
    """The commands by name. Reading one imports its module."""

    by_name: Mapping[str, LazyCommand] = field(default_factory=lambda: {one.name: one for one in COMMANDS})

    def __getitem__(self, name: str) -> Any:
        return self.by_name[name].loaded

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def __contains__(self, name: object) -> bool:
        return name in self.by_name


class LazyGroup(TyperGroup):
    """The group of all commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = cast(MutableMapping[str, Any], _Loading())
