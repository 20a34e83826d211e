"""Functions of aiormq and pamqp, the layers below aio-pika, that the RabbitMQ adapter needs.

aio-pika either has no call for them, or its call costs too much CPU per message. docs/decisions/0008 has the reason for
each. No other package may import aiormq or pamqp.
"""

from aiormq import ChannelLockedResource

from shared.brokers.rabbitmq.underlay.connections import Connection, is_blocked, keep_reasons_of_refusals
from shared.brokers.rabbitmq.underlay.consuming import ConsumerChannel, PushedMessage, ack, consume, nack_all
from shared.brokers.rabbitmq.underlay.properties import encodable, tolerate_any_properties
from shared.brokers.rabbitmq.underlay.publishing import ConfirmChannel, Envelope

__all__ = [
    "ChannelLockedResource",
    "ConfirmChannel",
    "Connection",
    "ConsumerChannel",
    "Envelope",
    "PushedMessage",
    "ack",
    "consume",
    "encodable",
    "is_blocked",
    "keep_reasons_of_refusals",
    "nack_all",
    "tolerate_any_properties",
]
