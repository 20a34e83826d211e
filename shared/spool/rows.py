"""What is in the file, and everything that is done to it: each function is part of a transaction of its caller."""

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shared.broker import DeadLetter
from shared.delivery import Delivery

SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which they came
    id TEXT NOT NULL,
    event TEXT NOT NULL,
    body BLOB NOT NULL,
    received_at INTEGER NOT NULL, -- Unix milliseconds
    hook_id TEXT,
    target_type TEXT,
    target_id TEXT,
    source TEXT,
    attempts INTEGER NOT NULL DEFAULT 0 -- how many processes gave it to a consumer
);
CREATE TABLE IF NOT EXISTS dead_letters (
    letter INTEGER PRIMARY KEY AUTOINCREMENT,
    number INTEGER UNIQUE, -- that of the delivery; NULL if it came from a file that has been set aside
    id TEXT NOT NULL,
    event TEXT NOT NULL,
    body BLOB NOT NULL,
    received_at INTEGER NOT NULL, -- Unix milliseconds
    hook_id TEXT,
    target_type TEXT,
    target_id TEXT,
    source TEXT,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    dead_at INTEGER NOT NULL -- Unix milliseconds
);
"""

BATCH_BYTES = 64 * 1024**2
"""Bytes of payloads past which a batch takes no more deliveries."""

DETAIL_LENGTH = 1000
"""Characters of a dead letter's detail that are kept."""

_FIELDS = "id, event, body, received_at, hook_id, target_type, target_id, source"
_INSERT = f"INSERT INTO deliveries ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
_SELECT = f"SELECT number, attempts, {_FIELDS} FROM deliveries"  # noqa: S608
_NEXT = f"{_SELECT} WHERE number > ? ORDER BY number LIMIT ?"
_ONE = f"{_SELECT} WHERE number = ?"
_BURY = (
    f"INSERT OR IGNORE INTO dead_letters (number, {_FIELDS}, reason, detail, dead_at) "  # noqa: S608
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_REPLAY = f"INSERT INTO deliveries ({_FIELDS}) SELECT {_FIELDS} FROM dead_letters WHERE letter = ?"  # noqa: S608
_LETTER = (
    f"SELECT letter, reason, detail, dead_at, {_FIELDS} FROM dead_letters "  # noqa: S608
    "WHERE letter > ? AND letter <= ? ORDER BY letter LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a spool takes: deliveries and bytes of their payloads, and as much again of dead letters.

    `redeliveries`: how often a delivery is given out again after processes that did not finish it.
    """

    deliveries: int
    bytes: int
    redeliveries: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery in the spool; `generation` says in which file, as numbers begin anew in a new one."""

    generation: int
    number: int
    attempts: int
    delivery: Delivery


@dataclass(slots=True)
class State:
    """What is in the file, and where in it this process is; a transaction changes a copy."""

    generation: int = 0
    deliveries: int = 0
    bytes: int = 0
    """Bytes of the payloads of deliveries."""
    held: int = 0
    """Deliveries that a consumer of this process has."""
    cursor: int = 0
    """The number up to which deliveries were given out by this process."""
    returned: tuple[int, ...] = ()
    """Numbers up to the cursor that are to be given out again."""
    unfinished: int = 0
    """Deliveries after the cursor that an earlier process gave out."""
    shelved: int = 0
    """Deliveries that nobody gets any more, and that found no room among the dead letters."""
    dead_letters: int = 0
    dead_bytes: int = 0
    version: int = 0
    """What SQLite said when the rows were last counted; it says something else once another process has written."""

    @property
    def waiting(self) -> int:
        """Deliveries that a consumer could get."""
        return self.deliveries - self.held - self.shelved


@dataclass(frozen=True, slots=True)
class HandedOut:
    """What a consumer gets, and what nobody gets any more because processes died of it too often.

    Of the latter those that found no room among the dead letters stay in the queue, and are looked at again when the
    spool is opened the next time.
    """

    entries: Sequence[Entry]
    buried: Sequence[Entry] = field(default=())
    unburied: Sequence[Entry] = field(default=())


def adapt(connection: sqlite3.Connection) -> None:
    """Add what a file of an earlier release lacks."""
    if not _without_source(connection):
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")  # another process may be about to do the same
        for table in _without_source(connection):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN source TEXT")


def _without_source(connection: sqlite3.Connection) -> list[str]:
    tables = ("deliveries", "dead_letters")
    return [
        one for one in tables if "source" not in {row[1] for row in connection.execute(f"PRAGMA table_info({one})")}
    ]


def load(connection: sqlite3.Connection, generation: int) -> State:
    """Return the state of a file of which nothing was given out yet; looks at every row."""
    (unfinished,) = connection.execute("SELECT count(nullif(attempts, 0)) FROM deliveries").fetchone()
    state = State(generation=generation, unfinished=unfinished)
    _recount(connection, state)
    return state


def notice(connection: sqlite3.Connection, state: State) -> None:
    """Count the rows again if another process has changed them; looks at every row then, and at nothing otherwise.

    Others put deliveries at the end and take dead letters away, so that what this process has given out stays as it is.
    """
    if _version(connection) != state.version:
        _recount(connection, state)


def fill(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return how many deliveries there are and the bytes of their payloads; looks at every row."""
    return _counted(connection, "deliveries")


def insert(connection: sqlite3.Connection, state: State, delivery: Delivery) -> None:
    """Put a delivery at the end of the queue."""
    connection.execute(_INSERT, _values(delivery))
    state.deliveries += 1
    state.bytes += len(delivery.body)


def hand_out(
    connection: sqlite3.Connection, state: State, *, given_back: Iterable[Entry], size: int, bounds: Bounds
) -> HandedOut:
    """Give out at most `size` deliveries, marked as given out; one that an earlier process gave out comes alone.

    Alone means: when no consumer has anything else. What is with it when it kills the process would be marked as often,
    and given up together with it.

    `given_back`: what consumers of this process had and did not finish; it comes first.
    """
    _put_back(connection, state, given_back)
    if state.returned:
        return HandedOut([_again(connection, state)])
    entries: list[Entry] = []
    buried: list[Entry] = []
    unburied: list[Entry] = []
    held = 0
    for number, attempts, *fields in connection.execute(_NEXT, (state.cursor, size)):
        if attempts and state.held:
            break
        entry = Entry(state.generation, number, attempts, Delivery(*fields))
        state.cursor = number
        state.held += 1
        state.unfinished -= bool(attempts)
        if attempts > bounds.redeliveries:
            if _give_up(connection, state, entry, bounds):
                buried.append(entry)
            else:
                unburied.append(entry)
                state.held -= 1
                state.shelved += 1
            continue
        entries.append(entry)
        held += len(entry.delivery.body)
        if attempts or held > BATCH_BYTES:
            break
    connection.executemany(
        "UPDATE deliveries SET attempts = attempts + 1 WHERE number = ?", [(entry.number,) for entry in entries]
    )
    return HandedOut(entries, buried, unburied)


def delete(connection: sqlite3.Connection, state: State, entries: Iterable[Entry]) -> None:
    """Delete deliveries that a consumer had."""
    for entry in entries:
        if entry.generation != state.generation:
            continue
        if connection.execute("DELETE FROM deliveries WHERE number = ?", (entry.number,)).rowcount:
            state.deliveries -= 1
            state.held -= 1
            state.bytes -= len(entry.delivery.body)


def bury(
    connection: sqlite3.Connection, state: State, *, entry: Entry, bounds: Bounds, reason: str, detail: str
) -> bool:
    """Copy a delivery to the dead letters, unless it is there already; return whether there was room."""
    size = len(entry.delivery.body)
    if state.dead_letters >= bounds.deliveries or state.dead_bytes + size > bounds.bytes:
        return False
    number = entry.number if entry.generation == state.generation else None
    now = time.time_ns() // 1_000_000
    values = (number, *_values(entry.delivery), reason, detail[:DETAIL_LENGTH], now)
    if connection.execute(_BURY, values).rowcount:
        state.dead_letters += 1
        state.dead_bytes += size
    return True


def letters(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return how many dead letters there are, and the number of the newest."""
    count, newest = connection.execute("SELECT count(*), coalesce(max(letter), 0) FROM dead_letters").fetchone()
    return count, newest


def letter_between(connection: sqlite3.Connection, after: int, newest: int) -> DeadLetter | None:
    """Return the oldest dead letter after one number and up to another, if there is one."""
    row = connection.execute(_LETTER, (after, newest)).fetchone()
    if row is None:
        return None
    number, reason, detail, dead_at, *fields = row
    return DeadLetter(number, Delivery(*fields), reason, detail, dead_at)


def replay(connection: sqlite3.Connection, number: int) -> bool:
    """Move a dead letter to the end of the queue; return whether it was there."""
    connection.execute(_REPLAY, (number,))
    return drop(connection, number)


def drop(connection: sqlite3.Connection, number: int) -> bool:
    """Delete a dead letter; return whether it was there."""
    return bool(connection.execute("DELETE FROM dead_letters WHERE letter = ?", (number,)).rowcount)


def _recount(connection: sqlite3.Connection, state: State) -> None:
    # The version first: what is written in between is counted twice rather than never.
    state.version = _version(connection)
    state.deliveries, state.bytes = _counted(connection, "deliveries")
    state.dead_letters, state.dead_bytes = _counted(connection, "dead_letters")


def _version(connection: sqlite3.Connection) -> int:
    """Return a number that changes with each commit of another connection (https://sqlite.org/pragma.html)."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


def _counted(connection: sqlite3.Connection, table: str) -> tuple[int, int]:
    counting = f"SELECT count(*), coalesce(sum(length(body)), 0) FROM {table}"  # noqa: S608 - our own names
    count, size = connection.execute(counting).fetchone()
    return count, size


def _put_back(connection: sqlite3.Connection, state: State, entries: Iterable[Entry]) -> None:
    numbers = [entry.number for entry in entries if entry.generation == state.generation]
    there = [
        number
        for number in numbers
        if connection.execute("SELECT 1 FROM deliveries WHERE number = ?", (number,)).fetchone()
    ]
    state.held -= len(there)
    state.returned += tuple(there)


def _again(connection: sqlite3.Connection, state: State) -> Entry:
    """Give out one that came back within this process; its mark stays as it is, as nothing has died of it."""
    first, *others = state.returned
    state.returned = tuple(others)
    state.held += 1
    number, attempts, *fields = connection.execute(_ONE, (first,)).fetchone()
    return Entry(state.generation, number, attempts, Delivery(*fields))


def _give_up(connection: sqlite3.Connection, state: State, entry: Entry, bounds: Bounds) -> bool:
    detail = f"handed out {entry.attempts} times and never done"
    if not bury(connection, state, entry=entry, bounds=bounds, reason="delivery_limit", detail=detail):
        return False
    delete(connection, state, [entry])
    return True


def _values(one: Delivery) -> tuple[str | bytes | int | None, ...]:
    return one.id, one.event, one.body, one.received_at, one.hook_id, one.target_type, one.target_id, one.source
