"""`promgithub processor`: count deliveries and expose the metrics."""

import asyncio

from processor.app import Processor
from promgithub.broker import rabbit_broker
from promgithub.running import load_or_exit, run
from shared import logs
from shared.settings import ProcessorSettings


def command() -> None:
    """Count deliveries in PostgreSQL, and expose the metrics. They come from RabbitMQ."""
    settings = load_or_exit(ProcessorSettings)
    logs.configure(settings.log_level, settings.log_format)

    async def main(stop: asyncio.Event) -> None:
        await Processor(settings, rabbit_broker(settings, "processor")).run(stop)

    run(main)
