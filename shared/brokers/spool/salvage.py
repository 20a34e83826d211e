"""Copies what SQLite can still read of a damaged spool into a new file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from shared.brokers.spool.integrity import lenient_text
from shared.brokers.spool.tables import DEAD_LETTER_COLUMNS, DELIVERY_COLUMNS

STEPS = 256
"""How many numbers after an unreadable row are tried one by one, before the search takes larger steps."""


class Gap(NamedTuple):
    """Rows of a table that cannot be read: their numbers are after `after` and before `before`."""

    table: str
    after: int
    before: int


class Salvaged(NamedTuple):
    """How many rows were copied, and where rows were not."""

    saved: int
    gaps: list[Gap]


def salvage(damaged: Path, target: sqlite3.Connection) -> Salvaged:
    """Copy the readable rows of a damaged file, which stays as it is, into an empty spool, in one transaction.

    Raises `sqlite3.OperationalError` if the new file cannot be written.
    """
    gaps: list[Gap] = []
    saved = 0
    with closing(sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro", uri=True)) as source, target:
        source.text_factory = lenient_text
        # Lets SQLite read a file that is shorter than its header says (`lockBtree` in SQLite's btree.c).
        source.execute("PRAGMA writable_schema=ON")
        target.execute("BEGIN")
        for table, columns in (("deliveries", DELIVERY_COLUMNS), ("dead_letters", DEAD_LETTER_COLUMNS)):
            names, places = ", ".join(columns), ", ".join("?" * len(columns))
            insert = f"INSERT INTO {table} ({names}) VALUES ({places})"  # noqa: S608 - our own names
            for row in _Table(source, table, columns).rows(gaps):
                try:
                    target.execute(insert, row)
                    saved += 1
                except sqlite3.IntegrityError:  # damage has made a value NULL
                    number = row[0]
                    gaps.append(Gap(table, number - 1, number + 1))
    return Salvaged(saved, gaps)


class _Table:
    """Reads a table of a damaged file."""

    def __init__(self, source: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> None:
        self._source = source
        self._table = table
        self._number = columns[0]
        names = ", ".join(columns)
        self._after = f"SELECT {names} FROM {table} WHERE {self._number} > ? ORDER BY {self._number}"  # noqa: S608

    def rows(self, gaps: list[Gap]) -> Iterator[tuple[Any, ...]]:
        """Yield each row that can be read; add what is left out to `gaps`."""
        position, last = 0, self._last()
        while position < last:
            try:
                for row in self._rows_after(position, last):
                    yield row
                    position = row[0]
            except sqlite3.DatabaseError:
                readable = self._readable_after(position, last)
                gaps.append(Gap(self._table, position, readable + 1))
                position = readable
            else:
                return

    def _rows_after(self, position: int, last: int) -> Iterator[tuple[Any, ...]]:
        for row in self._source.execute(self._after, (position,)):
            if row[0] > last:
                raise sqlite3.DatabaseError("a damaged number")
            yield row

    def _readable_after(self, position: int, last: int) -> int:
        """Return a number after `position` whose next row can be read, or `last`: usually the lowest."""
        failing, step = position, 1
        while True:
            candidate = min(failing + step, last)
            if candidate == last or self._is_readable(candidate):
                break
            failing = candidate
            step = 1 if candidate - position < STEPS else 2 * step
        while candidate - failing > 1:
            middle = (failing + candidate) // 2
            if self._is_readable(middle):
                candidate = middle
            else:
                failing = middle
        return candidate

    def _is_readable(self, number: int) -> bool:
        """Return whether the row after this number can be read."""
        try:
            return self._source.execute(f"{self._after} LIMIT 1", (number,)).fetchone() is not None
        except sqlite3.DatabaseError:
            return False

    def _last(self) -> int:
        """Return the highest number that the table has ever had, or 0 if the table cannot be read."""
        for query in (
            f"SELECT seq FROM sqlite_sequence WHERE name = '{self._table}'",  # noqa: S608 - our own names
            f"SELECT max({self._number}) FROM {self._table}",  # noqa: S608
        ):
            try:
                row = self._source.execute(query).fetchone()
            except sqlite3.DatabaseError:
                continue
            if row and isinstance(row[0], int):
                return row[0]
        return 0
