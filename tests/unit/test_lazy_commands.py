"""A command imports only what it needs: a process starts faster, and needs less memory."""

import subprocess
import sys

import pytest

from promgithub.lazy_commands import COMMANDS, LazyCommand

DATABASE = {"sqlalchemy", "alembic", "asyncpg"}

LIST = "import sys, promgithub.__main__, promgithub.commands.{module}; print(*sys.modules)"


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("ingest", DATABASE | {"gidgethub"}),
        ("status", DATABASE | {"aio_pika", "gidgethub"}),
        ("simulate", DATABASE | {"aio_pika", "gidgethub", "jinja2"}),
        ("dead_letters", {"alembic", "gidgethub", "jinja2"}),
        ("hooks", DATABASE | {"aio_pika", "jinja2"}),
    ],
)
def test_a_command_imports_nothing_that_it_does_not_need(module: str, unneeded: set[str]) -> None:
    program = [sys.executable, "-c", LIST.format(module=module)]
    imported = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert unneeded & set(imported) == set()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_a_name_and_a_help(command: LazyCommand) -> None:
    loaded = command.loaded
    assert loaded.name == command.name
    assert loaded.help
