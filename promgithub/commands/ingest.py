"""`promgithub ingest`: receive GitHub's webhooks."""

import asyncio

from ingest.receiver import Receiver
from processor.counting.events import COUNTED
from promgithub.commands.private_files import narrow, spool_files
from promgithub.commands.running import load_or_exit, run, start_logging
from shared.brokers.choice import outage_spool, shared_broker
from shared.settings import IngestSettings


def command() -> None:
    """Receive webhooks, verify them, and publish them to RabbitMQ."""
    settings = load_or_exit(IngestSettings)
    start_logging(settings)
    if settings.spool_dir is not None:
        narrow([settings.spool_dir], spool_files(settings.spool_dir))

    async def main(stop: asyncio.Event) -> None:
        await Receiver(settings, shared_broker(settings, "ingest"), outage_spool(settings), counted=COUNTED).run(stop)

    run(main)
