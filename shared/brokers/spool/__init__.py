"""The broker interface on a SQLite file: a durable FIFO of deliveries, for one process. It needs no server."""

from shared.brokers.spool.dead_letter_rows import spool_dead_letters
from shared.brokers.spool.external_publisher import spool_publisher
from shared.brokers.spool.file import check_unlocked
from shared.brokers.spool.spool_broker import SpoolBroker

__all__ = ["SpoolBroker", "check_unlocked", "spool_dead_letters", "spool_publisher"]
