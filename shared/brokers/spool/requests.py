"""The operations that wait for the writer."""

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from shared.brokers.spool.transactions import Operation
from shared.errors import BrokerUnavailable

GROUP_BYTES = 16 * 1024**2
"""A transaction with more bytes of new payloads than this gets no further operations.

Its log, which a checkpoint copies into the file, must fit into the reserve of disk space.
"""


class Kind(Enum):
    """What an operation needs, if the disk is full or files were removed."""

    ADD = "add"  # adds a delivery: needs every file, and the reserve of disk space
    HAND_OUT = "hand out"  # needs so much room that the delivery can be deleted afterwards
    OTHER = "other"  # is always tried


@dataclass(frozen=True, slots=True)
class Request:
    """An operation that waits for its transaction. `size` is how many bytes of payloads it adds."""

    operation: Operation[Any]
    future: asyncio.Future[Any]
    kind: Kind
    size: int
    patient: bool


def next_group(waiting: list[Request]) -> tuple[list[Request], list[Request]]:
    """Split the waiting operations into those of the next transaction, and the others."""
    size = 0
    for place, one in enumerate(waiting, 1):
        size += one.size
        if size > GROUP_BYTES:
            return waiting[:place], waiting[place:]
    return waiting, []


def settle(future: asyncio.Future[Any], result: object) -> None:
    """Set the result of an operation, which may be an error."""
    if future.done():  # cancelled or timed out
        return
    if isinstance(result, sqlite3.Error):
        future.set_exception(BrokerUnavailable(f"the spool does not accept it ({result})"))
    elif isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def fail(group: Sequence[Request], reason: str) -> None:
    """Let operations raise `BrokerUnavailable`."""
    for one in group:
        settle(one.future, BrokerUnavailable(reason))
