"""RabbitMQ as the broker between receivers and processors."""

from shared.rabbitmq.broker import RabbitBroker
from shared.rabbitmq.dead_letters import rabbit_dead_letters
from shared.rabbitmq.topology import Topology

__all__ = ["RabbitBroker", "Topology", "rabbit_dead_letters"]
