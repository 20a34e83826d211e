"""`promgithub standalone`: receiver and processor in one process, with nothing else to install."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from prometheus_client.core import Metric
from pydantic import SecretStr

from ingest.app import Receiver
from ingest.metrics import SpoolFigures
from processor.app import Processor
from promgithub.running import load_or_exit, run
from shared import logs
from shared.admin import AdminServer
from shared.exposition import Families
from shared.process import serve
from shared.settings import StandaloneSettings, StandaloneStoreSettings
from shared.spool import SpoolBroker

HOLDER = "standalone"
"""Who holds the lease: the one process that has the data directory, so that it need not wait for its own lease."""


SPOOL = "spool"
"""The spool's directory in the data directory."""

_Settings = TypeVar("_Settings", bound=StandaloneStoreSettings)


class Together:
    """The families of several sources; what several have, such as those of the process, comes from the first."""

    def __init__(self, *sources: Families) -> None:
        """`sources`, in the order in which they are exposed."""
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Yield every family once."""
        seen: set[str] = set()
        for source in self._sources:
            for family in source.collect():
                if family.name not in seen:
                    seen.add(family.name)
                    yield family


def command(
    data_dir: Annotated[Path, typer.Option(help="Directory for deliveries and state; made if missing.")] = Path("data"),
) -> None:
    """Receive, count and expose in one process. Nothing else need be installed."""
    settings = load_or_exit(StandaloneSettings)
    logs.configure(settings.log_level, settings.log_format)

    async def main(stop: asyncio.Event) -> None:
        await _standalone(in_directory(settings, data_dir), data_dir, stop)

    run(main)


def in_directory(settings: _Settings, data_dir: Path) -> _Settings:
    """Return the settings with the database's path made absolute."""
    path = data_dir.absolute() / settings.database_url.get_secret_value().removeprefix("sqlite:///")
    return settings.model_copy(update={"database_url": SecretStr(f"sqlite:///{path}")})


async def _standalone(settings: StandaloneSettings, data_dir: Path, stop: asyncio.Event) -> None:
    broker = SpoolBroker(data_dir / SPOOL, settings.event_queue_size, settings.delivery_limit, settings.spool_max_bytes)
    receiver, processor = Receiver(settings, broker), Processor(settings, broker, HOLDER)
    receiver.metrics.spool = lambda: SpoolFigures.of(broker)

    async def gather() -> Together:
        return Together(await receiver.gather(), await processor.gather())

    checks = {**receiver.checks, **processor.checks}
    admin = AdminServer(settings.admin_host, settings.admin_port, gather, checks)
    await serve(admin, broker, stop, receiver.receive, processor.work)
