"""The choice of a broker by the settings: the only place that makes a broker from them.

Receivers and processors share one broker. `shared_broker` and `dead_letters` choose its adapter.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from shared.brokers.interface import MAX_HELD_BYTES, NO_DELIVERY_LIMIT, Broker, DeadLetters, Publisher
from shared.brokers.rabbitmq import RabbitBroker, Topology, rabbit_dead_letters
from shared.brokers.spool import SpoolBroker, spool_dead_letters, spool_publisher
from shared.errors import BrokerUnavailable
from shared.settings import SPOOL_MAX_BYTES, CommonSettings, IngestSettings, ProcessorSettings

COMMAND_CONNECT_SECONDS = 10.0
"""How long a command waits for the shared broker."""


def shared_broker(settings: CommonSettings, role: str) -> Broker:
    """Return the broker that receivers and processors share, as the settings describe it; not connected yet."""
    return RabbitBroker(
        settings.amqp_url.get_secret_value(),
        _topology(settings),
        role,
        settings.publish_timeout.total_seconds(),
        max_held_bytes=_max_held_bytes(settings),
        allow_unsafe_queue=settings.allow_unsafe_queue,
    )


def outage_spool(settings: IngestSettings) -> SpoolBroker | None:
    """Return the receiver's spool for outages of RabbitMQ, or None if `PROMGITHUB_SPOOL_DIR` is not set.

    The spool is not open yet. It has no delivery limit: forwarding does not read the payloads, so no payload can crash
    the process.
    """
    if settings.spool_dir is None:
        return None
    return SpoolBroker(settings.spool_dir, settings.event_queue_size, NO_DELIVERY_LIMIT, settings.spool_max_bytes)


def standalone_spool(
    settings: CommonSettings, directory: Path, max_bytes: int = SPOOL_MAX_BYTES, companion: Path | None = None
) -> SpoolBroker:
    """Return the spool that replaces RabbitMQ in a standalone promgithub. It is not open yet.

    `companion` is the file of the store: without it, the spool accepts no deliveries.
    """
    size, limit = settings.event_queue_size, settings.delivery_limit
    held = _max_held_bytes(settings)
    return SpoolBroker(directory, size, limit, max_bytes, companion=companion, max_held_bytes=held)


@asynccontextmanager
async def command_publisher(settings: CommonSettings, role: str, spool_dir: Path | None) -> AsyncIterator[Publisher]:
    """Give a publisher for a command: into the spool in a directory or, if that is None, into the shared broker.

    Raises `BrokerUnavailable` if the broker cannot be used in time, or `SettingsError` if there is no spool.
    """
    if spool_dir is not None:
        async with spool_publisher(spool_dir, settings.event_queue_size, SPOOL_MAX_BYTES) as spool:
            yield spool
        return
    broker = shared_broker(settings, role)
    try:
        await broker.start()
        if not await broker.ready_within(COMMAND_CONNECT_SECONDS):
            raise BrokerUnavailable(
                f"no connection to the broker in {COMMAND_CONNECT_SECONDS:.0f} s ({broker.trouble}); "
                "check PROMGITHUB_AMQP_URL"
            )
        yield broker
    finally:
        await broker.close()


def dead_letters(settings: CommonSettings, spool_dir: Path | None) -> AbstractAsyncContextManager[DeadLetters]:
    """Return a visit to the dead letters of the spool in a directory or, if that is None, of the shared broker."""
    if spool_dir is not None:
        return spool_dead_letters(spool_dir, settings.event_queue_size, SPOOL_MAX_BYTES)
    return rabbit_dead_letters(settings.amqp_url.get_secret_value(), _topology(settings))


def _topology(settings: CommonSettings) -> Topology:
    return Topology(settings.queue_name, settings.event_queue_size, settings.delivery_limit)


def _max_held_bytes(settings: CommonSettings) -> int:
    """Return the setting of processors; the consumers of other roles have the default."""
    return settings.max_held_bytes if isinstance(settings, ProcessorSettings) else MAX_HELD_BYTES
