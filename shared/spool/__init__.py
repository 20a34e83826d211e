"""The broker interface on a file: a durable FIFO of deliveries in SQLite, for one process and nothing to install."""

from shared.spool.broker import MAX_BYTES, SpoolBroker
from shared.spool.dead_letters import spool_dead_letters
from shared.spool.joined import spool_publisher

__all__ = ["MAX_BYTES", "SpoolBroker", "spool_dead_letters", "spool_publisher"]
