"""`promgithub standalone`: receiver and processor as one command, without RabbitMQ and PostgreSQL."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client.core import Metric

from ingest.page import ReceiverPage
from ingest.receiver import webhook_url
from ingest.receiver_metrics import SpoolFigures, SpoolMetrics
from processor.app import Processor
from promgithub.commands.data_directories import SPOOL, in_directory
from promgithub.commands.private_files import narrow, spool_files, sqlite_files
from promgithub.commands.running import fail, load_or_exit, run, start_logging
from promgithub.receiving import ReceivingProcess
from shared.admin.exposition import Families
from shared.admin.server import AdminServer, standard_routes
from shared.brokers.choice import standalone_spool
from shared.brokers.spool import SpoolBroker, check_unlocked
from shared.errors import SettingsError
from shared.process import Start, serve
from shared.settings import StandaloneSettings

HOLDER = "standalone"
"""The holder of the lease. Only one process can use the data directory, so after a restart it need not wait for the
lease to expire."""

ADDED_UP = (
    "process_cpu_seconds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "promgithub_file_descriptors_exhausted",
)
"""Families that each of the two processes has for itself."""


class CombinedFamilies:
    """The families of several sources. If several sources have a family, the first one is used, or the sum."""

    def __init__(self, *sources: Families) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Yield every family once."""
        seen: dict[str, Metric] = {}
        for source in self._sources:
            for family in source.collect():
                if family.name not in seen:
                    seen[family.name] = family
                    if family.name not in ADDED_UP:
                        yield family
                elif family.name in ADDED_UP:
                    seen[family.name] = _sum(seen[family.name], family)
        yield from (seen[name] for name in ADDED_UP if name in seen)


def command(
    data_dir: Annotated[Path, typer.Option(help="Directory for deliveries and the store; created if missing.")] = Path(
        "data"
    ),
) -> None:
    """Receive, count and expose.

    It needs neither RabbitMQ nor PostgreSQL.
    """
    serve_from(data_dir, load_or_exit(StandaloneSettings))


def serve_from(data_dir: Path, settings: StandaloneSettings, announce: Callable[[], None] = lambda: None) -> None:
    """Run standalone on a data directory until a signal stops it; call `announce` when it is ready."""
    start_logging(settings)
    settings = in_directory(settings, data_dir)
    database = Path(settings.database_url.get_secret_value().removeprefix("sqlite:///"))
    narrow([data_dir, data_dir / SPOOL], [*sqlite_files(database), *spool_files(data_dir / SPOOL)])

    broker = standalone_spool(settings, data_dir / SPOOL, settings.spool_max_bytes, database)
    try:
        check_unlocked(data_dir / SPOOL)  # before the ports, so that a second instance names the first
        receiving = ReceivingProcess.start(settings, broker)
    except SettingsError as error:
        fail(error, 2)

    async def main(stop: asyncio.Event) -> None:
        await _standalone(settings, broker, receiving, stop, announce)

    run(main)


async def _standalone(
    settings: StandaloneSettings,
    broker: SpoolBroker,
    receiving: ReceivingProcess,
    stop: asyncio.Event,
    announce: Callable[[], None],
) -> None:
    processor = Processor(settings, broker, HOLDER, f"http://localhost:{settings.service_port}")

    spool = SpoolMetrics(lambda: SpoolFigures.of(broker))

    async def gather(*, openmetrics: bool) -> CombinedFamilies:
        # First what the receiving process would get wrong: it knows nothing of the spool.
        return CombinedFamilies(spool, await processor.gather(openmetrics=openmetrics), await receiving.gather())

    async def spool_only() -> SpoolMetrics:
        return spool

    processor.status.add_metrics(spool_only)

    def say_started() -> None:
        receiving.say_started()
        processor.say_started()
        announce()

    checks = {**receiving.checks, **processor.checks}
    page = ReceiverPage(receiving.taken, checks, webhook_url(settings))
    routes = standard_routes(gather, checks, stop) | {"/": page.page} | processor.routes
    admin = AdminServer(settings.admin_host, settings.admin_port, routes)
    await serve(admin, broker, stop, Start(checks, say_started), receiving.receive, processor.work)


def _sum(one: Metric, other: Metric) -> Metric:
    """Return a family without labels in which each value is the sum; the time of its creation is that of `one`."""
    theirs = {sample.name: sample.value for sample in other.samples if not sample.name.endswith("_created")}
    both = Metric(one.name, one.documentation, one.type)
    for sample in one.samples:
        both.add_sample(sample.name, sample.labels, sample.value + theirs.get(sample.name, 0.0))
    return both
