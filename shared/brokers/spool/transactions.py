"""Transactions on the file of a spool. All of this runs in the writer's thread."""

import copy
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

from shared.brokers.spool import rows
from shared.brokers.spool.file import Condition, SpoolFile, is_damage
from shared.brokers.spool.rows import State
from shared.delivery import Delivery

KEPT_PAGES = 4096
"""Unused pages (4 KiB each) that stay in the file, so that its size does not change whenever the queue drains."""

VACUUM_PAGES = 1024
"""Maximum number of unused pages that one vacuum step frees. A publish may have to wait for a step."""

_Result = TypeVar("_Result")

Operation = Callable[[sqlite3.Connection, State], _Result]
"""A step of a transaction. It changes the file and a copy of the state; the commit makes both effective."""


@dataclass(frozen=True, slots=True)
class Insert:
    """Appends a delivery to the queue. Those that follow each other in a transaction share their statements."""

    delivery: Delivery

    def __call__(self, connection: sqlite3.Connection, state: State) -> None:
        """Append it alone."""
        rows.insert(connection, state, [self.delivery])


@dataclass(frozen=True, slots=True)
class Committed:
    """The new state, the result of each operation (its error, if it failed), and the condition of the spool."""

    state: State
    results: Sequence[Any]
    condition: Condition


class Transactions:
    """Runs operations on a file."""

    def __init__(self, file: SpoolFile) -> None:
        self.file = file
        self.commits = 0

    def run(self, state: State, operations: Sequence[Operation[Any]]) -> Committed:
        """Run operations in one transaction. If one of them fails, run each in its own transaction.

        Raises `sqlite3.Error` if the file cannot be written.
        """
        state, results = self._run(state, operations)
        # After the commit: a file that was removed meanwhile does not keep what was committed.
        return Committed(state, results, self.file.condition())

    def replace(self, state: State, damage: str) -> State:
        """Replace a damaged file; return the state of the new one. Raises `sqlite3.Error` or `OSError`."""
        self.file.replace(damage)
        return rows.load_state(self.file.connection, state.generation + 1)

    def vacuum(self, *, completely: bool) -> bool:
        """Free some unused pages; return whether there are more. Keeps `KEPT_PAGES`, unless `completely`."""
        connection = self.file.connection
        (unused,) = connection.execute("PRAGMA freelist_count").fetchone()
        surplus = int(unused) - (0 if completely else KEPT_PAGES)
        if surplus <= 0:
            return False
        # Not `execute`: it runs only the first step, which frees one page.
        connection.executescript(f"PRAGMA incremental_vacuum({min(surplus, VACUUM_PAGES)})")
        if surplus > VACUUM_PAGES:
            return True
        # Truncates the file and, with TRUNCATE, the log.
        connection.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if completely else 'PASSIVE'})")
        return False

    def _run(self, state: State, operations: Sequence[Operation[Any]]) -> tuple[State, list[Any]]:
        try:
            return self._transaction(state, operations)
        except Exception as error:
            if isinstance(error, sqlite3.OperationalError) or is_damage(error):
                raise
        results: list[Any] = []
        for operation in operations:
            try:
                state, (result,) = self._transaction(state, [operation])
            except Exception as error:  # noqa: BLE001 - the future of the operation raises it
                result = error
            results.append(result)
        return state, results

    def _transaction(self, before: State, operations: Sequence[Operation[Any]]) -> tuple[State, list[Any]]:
        connection, state = self.file.connection, copy.copy(before)
        if connection.in_transaction:  # the rollback of the last transaction failed
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = list(_results(connection, state, operations))
            connection.execute("COMMIT")
        except Exception:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self.commits += 1
        return state, results


def _results(connection: sqlite3.Connection, state: State, operations: Sequence[Operation[Any]]) -> Iterator[Any]:
    for _, group in groupby(operations, lambda operation: isinstance(operation, Insert)):
        same = list(group)
        if deliveries := [operation.delivery for operation in same if isinstance(operation, Insert)]:
            rows.insert(connection, state, deliveries)
            yield from [None] * len(deliveries)
        else:
            yield from (operation(connection, state) for operation in same)
