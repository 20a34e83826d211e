"""Code common to the tests of the image, of compose.yaml and of the Kubernetes manifests."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from promgithub.__main__ import app
from shared import settings
from shared.setting_warnings import unknown_variables

ROOT = Path(__file__).parents[2]

PORTS: Mapping[str, int] = {
    "webhook": settings.IngestSettings.model_fields["service_port"].default,
    "ingest": settings.IngestSettings.model_fields["admin_port"].default,
    "processor": settings.ProcessorSettings.model_fields["admin_port"].default,
}
"""The port of the webhook, and the admin port of each role, as they are by default."""

ROLE_OF_COMMAND = {"ingest": "ingest", "processor": "processor", "standalone": "standalone", "migrate": "processor"}
"""The role whose settings a command reads."""

SHUTDOWN_SECONDS = 25
"""What `shared.process.serve` promises."""


def documents(text: str) -> list[Any]:
    """Return the documents of a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document]


def parse(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of a command line of `promgithub`. Raises an error of typer if it would not run."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    context = typer.Context(group)
    name, command, rest = group.resolve_command(context, list(arguments))
    assert command is not None
    return command.make_context(name, rest, parent=context).params


def problems(environment: Mapping[str, str], command: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield what is wrong with the environment of a command: values that do not fit, and names that mean nothing."""
    with monkeypatch.context() as patch:
        for name in list(settings_in(os.environ)):
            patch.delenv(name)
        for name in settings_in(environment):
            patch.setenv(name, environment[name])
        _, wrong = settings.check(settings.ROLES[ROLE_OF_COMMAND[command]])
        yield from wrong
        yield from unknown_variables()


def settings_in(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that are ours."""
    return (name for name in environment if name.startswith(settings.PREFIX))
