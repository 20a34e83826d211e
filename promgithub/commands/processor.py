"""`promgithub processor`: count deliveries and expose the metrics."""

import asyncio

from processor.app import Processor
from promgithub.commands.running import load_or_exit, run, start_logging
from shared.brokers.choice import shared_broker
from shared.settings import ProcessorSettings


def command() -> None:
    """Count the deliveries in RabbitMQ, and expose the metrics."""
    settings = load_or_exit(ProcessorSettings)
    start_logging(settings)

    async def main(stop: asyncio.Event) -> None:
        await Processor(settings, shared_broker(settings, "processor")).run(stop)

    run(main)
