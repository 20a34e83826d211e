"""From settings to the broker that a role uses."""

from shared.rabbitmq import RabbitBroker, Topology
from shared.settings import CommonSettings


def rabbit_broker(settings: CommonSettings, role: str) -> RabbitBroker:
    """Return RabbitMQ as the settings describe it; not connected yet."""
    topology = Topology(settings.queue_name, settings.event_queue_size, settings.delivery_limit)
    return RabbitBroker(settings.amqp_url.get_secret_value(), topology, role)
