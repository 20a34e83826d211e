"""RabbitMQ as the broker between receivers and processors."""

from shared.rabbitmq.broker import RabbitBroker
from shared.rabbitmq.topology import Topology

__all__ = ["RabbitBroker", "Topology"]
