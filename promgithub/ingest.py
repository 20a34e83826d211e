"""`promgithub ingest`: receive GitHub's webhooks."""

import asyncio

from ingest.app import Receiver
from promgithub.broker import outage_spool, rabbit_broker
from promgithub.running import load_or_exit, run
from shared import logs
from shared.settings import IngestSettings


def command() -> None:
    """Receive webhooks, verify them, and hand them to RabbitMQ."""
    settings = load_or_exit(IngestSettings)
    logs.configure(settings.log_level, settings.log_format)

    async def main(stop: asyncio.Event) -> None:
        await Receiver(settings, rabbit_broker(settings, "ingest"), outage_spool(settings)).run(stop)

    run(main)
