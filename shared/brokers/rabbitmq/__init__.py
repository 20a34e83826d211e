"""RabbitMQ as the broker between receivers and processors."""

from shared.brokers.rabbitmq.amqp_broker import RabbitBroker
from shared.brokers.rabbitmq.dead_letter_queue import rabbit_dead_letters
from shared.brokers.rabbitmq.topology import Topology

__all__ = ["RabbitBroker", "Topology", "rabbit_dead_letters"]
