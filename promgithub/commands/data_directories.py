"""The data directory of a standalone promgithub."""

from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import SecretStr

from promgithub.commands.running import load_or_exit
from shared.settings import ProcessorSettings, StandaloneStoreSettings

SPOOL = "spool"
"""The spool's directory in the data directory."""

DataDir = Annotated[
    Path | None,
    typer.Option(help="Data directory of a standalone promgithub, running or stopped, instead of RabbitMQ etc."),
]
"""The option of commands that work with a standalone promgithub or with the servers."""

_Settings = TypeVar("_Settings", bound=StandaloneStoreSettings)


def in_directory(settings: _Settings, data_dir: Path) -> _Settings:
    """Return the settings with the database's path made absolute."""
    path = data_dir.absolute() / settings.database_url.get_secret_value().removeprefix("sqlite:///")
    return settings.model_copy(update={"database_url": SecretStr(f"sqlite:///{path}")})


def store_settings(data_dir: Path | None) -> ProcessorSettings:
    """Return the settings of the processor whose store a command uses, or exit with a line per problem."""
    if data_dir is None:
        return load_or_exit(ProcessorSettings)
    return in_directory(load_or_exit(StandaloneStoreSettings), data_dir)
