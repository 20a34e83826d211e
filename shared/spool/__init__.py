"""The broker interface on a file: a durable FIFO of deliveries in SQLite, for one process and nothing to install."""

from shared.spool.broker import MAX_BYTES, SpoolBroker

__all__ = ["MAX_BYTES", "SpoolBroker"]
