"""From settings to the brokers that a role uses."""

from shared.rabbitmq import RabbitBroker, Topology
from shared.settings import CommonSettings, IngestSettings
from shared.spool import SpoolBroker

NEVER = 2**31
"""A delivery limit that is not reached: forwarding looks into no payload, so that no process dies of one."""


def rabbit_broker(settings: CommonSettings, role: str) -> RabbitBroker:
    """Return RabbitMQ as the settings describe it; not connected yet."""
    timeout = settings.publish_timeout.total_seconds()
    return RabbitBroker(settings.amqp_url.get_secret_value(), topology(settings), role, timeout)


def topology(settings: CommonSettings) -> Topology:
    """Return the queues that the settings describe."""
    return Topology(settings.queue_name, settings.event_queue_size, settings.delivery_limit)


def outage_spool(settings: IngestSettings) -> SpoolBroker | None:
    """Return the spool that a receiver has for when RabbitMQ takes nothing, if it is to have one; not open yet."""
    if settings.spool_dir is None:
        return None
    return SpoolBroker(settings.spool_dir, settings.event_queue_size, NEVER, settings.spool_max_bytes)
