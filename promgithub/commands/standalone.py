"""`promgithub standalone`: receiver and processor in one process, without RabbitMQ and PostgreSQL."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client.core import Metric

from ingest.receiver import Receiver
from ingest.receiver_metrics import SpoolFigures
from processor.app import Processor
from processor.counting.events import COUNTED
from promgithub.commands.data_directories import SPOOL, in_directory
from promgithub.commands.private_files import narrow, spool_files, sqlite_files
from promgithub.commands.running import load_or_exit, run, start_logging
from shared.admin.exposition import Families
from shared.admin.server import AdminServer, standard_routes
from shared.brokers.choice import standalone_spool
from shared.brokers.spool import check_unlocked
from shared.process import Start, serve
from shared.settings import StandaloneSettings

HOLDER = "standalone"
"""The holder of the lease. Only one process can use the data directory, so after a restart it need not wait for the
lease to expire."""


class CombinedFamilies:
    """The families of several sources. If several sources have a family, the first one is used."""

    def __init__(self, *sources: Families) -> None:
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
    data_dir: Annotated[Path, typer.Option(help="Directory for deliveries and the store; created if missing.")] = Path(
        "data"
    ),
) -> None:
    """Receive, count and expose, in one process.

    It needs neither RabbitMQ nor PostgreSQL.
    """
    serve_from(data_dir, load_or_exit(StandaloneSettings))


def serve_from(data_dir: Path, settings: StandaloneSettings, announce: Callable[[], None] = lambda: None) -> None:
    """Run standalone on a data directory until a signal stops it; call `announce` when it is ready."""
    start_logging(settings)
    settings = in_directory(settings, data_dir)
    database = Path(settings.database_url.get_secret_value().removeprefix("sqlite:///"))
    narrow([data_dir, data_dir / SPOOL], [*sqlite_files(database), *spool_files(data_dir / SPOOL)])

    async def main(stop: asyncio.Event) -> None:
        await _standalone(settings, data_dir, stop, announce)

    run(main)


async def _standalone(
    settings: StandaloneSettings, data_dir: Path, stop: asyncio.Event, announce: Callable[[], None]
) -> None:
    check_unlocked(data_dir / SPOOL)  # before the ports, so that a second instance names the first
    store = Path(settings.database_url.get_secret_value().removeprefix("sqlite:///"))
    broker = standalone_spool(settings, data_dir / SPOOL, settings.spool_max_bytes, store)
    receiver = Receiver(settings, broker, spool_figures=lambda: SpoolFigures.of(broker), counted=COUNTED)
    processor = Processor(settings, broker, HOLDER, f"http://localhost:{settings.service_port}")

    async def gather(*, openmetrics: bool) -> CombinedFamilies:
        return CombinedFamilies(
            await receiver.gather(openmetrics=openmetrics), await processor.gather(openmetrics=openmetrics)
        )

    processor.status.add_metrics(lambda: receiver.gather(openmetrics=False))

    def say_started() -> None:
        receiver.say_started()
        processor.say_started()
        announce()

    checks = {**receiver.checks, **processor.checks}
    routes = standard_routes(gather, checks, stop) | receiver.routes | processor.routes
    admin = AdminServer(settings.admin_host, settings.admin_port, routes)
    await serve(admin, broker, stop, Start(checks, say_started), receiver.receive, processor.work)
