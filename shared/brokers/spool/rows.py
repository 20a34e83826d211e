"""The tables of the spool, and the operations on them. The caller of each function owns the transaction."""

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from shared.brokers.interface import DETAIL_LENGTH, DeadLetter
from shared.brokers.spool.integrity import checksum_of, is_intact, remains_of
from shared.brokers.spool.tables import FIELDS, ROW
from shared.delivery import Delivery

DAMAGED = "damaged"
"""Reason of a dead letter: the row does not have its checksum."""

DELIVERY_LIMIT = "delivery_limit"
"""Reason of a dead letter: too many processes have ended without acking the delivery."""

BATCH_BYTES = 64 * 1024**2
"""A batch that has more bytes of payloads than this gets no further deliveries."""

INSERTED_AT_ONCE = (64, 16, 4, 1)
"""Numbers of deliveries that one statement inserts."""

# SQLite's driver lets other threads run during each step of a statement, and then waits until it may go on itself. So
# one statement for many rows costs much less than one for each.
_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERTS = {
    count: f"INSERT INTO deliveries ({ROW}) VALUES {', '.join([_VALUES] * count)}"  # noqa: S608 - our own names
    for count in INSERTED_AT_ONCE
}
_THESE = "WHERE number IN (SELECT value FROM json_each(?))"
_COUNT_ATTEMPTS = f"UPDATE deliveries SET attempts = attempts + 1 {_THESE}"  # noqa: S608
_SIZE = f"SELECT count(*), coalesce(sum(length(body)), 0) FROM deliveries {_THESE}"  # noqa: S608
_DELETE = f"DELETE FROM deliveries {_THESE}"  # noqa: S608
_SELECT = f"SELECT number, attempts, checksum, {FIELDS} FROM deliveries"  # noqa: S608
_NEXT = f"{_SELECT} WHERE number > ? ORDER BY number LIMIT ?"
_ONE = f"{_SELECT} WHERE number = ?"
_BURY = (
    f"INSERT OR IGNORE INTO dead_letters (number, {ROW}, reason, detail, dead_at) "  # noqa: S608
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_STORED = f"SELECT checksum, {FIELDS} FROM dead_letters WHERE letter = ?"  # noqa: S608
_LETTER = (
    f"SELECT letter, reason, detail, dead_at, {FIELDS} FROM dead_letters "  # noqa: S608
    "WHERE letter > ? AND letter <= ? ORDER BY letter LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a spool: deliveries and bytes of their payloads. The dead letters have the same limits.

    `redeliveries` is how often a delivery is handed out again after a process ended without acking it.
    """

    deliveries: int
    bytes: int
    redeliveries: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery in the spool. `generation` identifies the file, because a new file starts again at number 1."""

    generation: int
    number: int
    attempts: int
    checksum: int
    delivery: Delivery


@dataclass(slots=True)
class State:
    """Counts of the rows in the file, and this process's position in it. A transaction changes a copy."""

    generation: int = 0
    deliveries: int = 0
    bytes: int = 0
    """Bytes of the payloads of deliveries."""
    held: int = 0
    """Deliveries that consumers of this process hold."""
    cursor: int = 0
    """Number of the last delivery that this process has handed out."""
    returned: tuple[int, ...] = ()
    """Numbers up to the cursor that this process must hand out again."""
    unfinished: int = 0
    """Deliveries after the cursor that an earlier process has handed out."""
    shelved: int = 0
    """Deliveries that have reached the delivery limit while the dead letters are full. They are not handed out."""
    dead_letters: int = 0
    dead_bytes: int = 0
    version: int = 0
    """`PRAGMA data_version` when the rows were last counted. It changes when another process writes."""

    @property
    def waiting(self) -> int:
        """Deliveries that can be handed out."""
        return self.deliveries - self.held - self.shelved


@dataclass(frozen=True, slots=True)
class HandedOut:
    """The deliveries for a consumer (`entries`), and those that are damaged or have reached the delivery limit.

    Those in `buried` are now dead letters. Those in `unburied` stay in the queue, because the dead letters are full.
    They are tried again when the spool is opened the next time. Each comes with the reason.
    """

    entries: Sequence[Entry]
    buried: Sequence[tuple[Entry, str]] = field(default=())
    unburied: Sequence[tuple[Entry, str]] = field(default=())


def load_state(connection: sqlite3.Connection, generation: int) -> State:
    """Return the state of a file before the first delivery is handed out. Reads every row."""
    (unfinished,) = connection.execute("SELECT count(nullif(attempts, 0)) FROM deliveries").fetchone()
    state = State(generation=generation, unfinished=unfinished)
    _recount(connection, state)
    return state


def probe(connection: sqlite3.Connection, state: State) -> None:
    """Write without changing anything, and count the rows again if another process has changed them.

    Other processes only append deliveries and delete dead letters, so the deliveries that this process has handed out
    do not change.
    """
    _write_nothing(connection)
    if _version(connection) != state.version:
        _recount(connection, state)


def fill(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the number of deliveries and the bytes of their payloads. Reads every row."""
    return _counted(connection, "deliveries")


def insert(connection: sqlite3.Connection, state: State, deliveries: Sequence[Delivery]) -> None:
    """Append deliveries to the queue."""
    rows = [(*values, checksum_of(values)) for values in map(_values, deliveries)]
    start = 0
    for count in INSERTED_AT_ONCE:
        while len(rows) - start >= count:
            connection.execute(_INSERTS[count], tuple(chain.from_iterable(rows[start : start + count])))
            start += count
    state.deliveries += len(deliveries)
    state.bytes += sum(len(delivery.body) for delivery in deliveries)


def hand_out(
    connection: sqlite3.Connection, state: State, *, given_back: Iterable[Entry], size: int, room: int, bounds: Bounds
) -> HandedOut:
    """Hand out at most `size` deliveries, and count an attempt for each.

    The first delivery may be of any size. Further ones are handed out while the payloads fit into `room` bytes.

    A delivery that an earlier process has handed out is handed out alone: at a time when no consumer holds another one.
    If it crashes the process, the others would otherwise reach the delivery limit as well.

    `given_back` has the deliveries that consumers of this process did not finish. They are handed out first.
    """
    _put_back(connection, state, given_back)
    if state.returned:
        return HandedOut([_again(connection, state)])
    entries: list[Entry] = []
    buried: list[tuple[Entry, str]] = []
    unburied: list[tuple[Entry, str]] = []
    held = 0
    for number, attempts, checksum, *fields in connection.execute(_NEXT, (state.cursor, size)):
        if attempts and state.held:
            break
        damaged = not is_intact(fields, attempts, checksum)
        delivery = remains_of(fields) if damaged else Delivery(*fields)
        entry = Entry(state.generation, number, attempts, checksum, delivery)
        if entries and held + len(delivery.body) > room:
            break
        state.cursor = number
        state.held += 1
        state.unfinished -= bool(attempts)
        if damaged or attempts > bounds.redeliveries:
            reason = DAMAGED if damaged else DELIVERY_LIMIT
            if _give_up(connection, state, entry, bounds, reason):
                buried.append((entry, reason))
            else:
                unburied.append((entry, reason))
                state.held -= 1
                state.shelved += 1
            continue
        entries.append(entry)
        held += len(entry.delivery.body)
        if attempts or held > BATCH_BYTES:
            break
    connection.execute(_COUNT_ATTEMPTS, (_these(entries),))
    return HandedOut(entries, buried, unburied)


def delete(connection: sqlite3.Connection, state: State, entries: Iterable[Entry]) -> None:
    """Delete deliveries that a consumer has acked."""
    these = _these(entry for entry in entries if entry.generation == state.generation)
    count, size = connection.execute(_SIZE, (these,)).fetchone()
    connection.execute(_DELETE, (these,))
    state.deliveries -= count
    state.held -= count
    state.bytes -= size


def bury(
    connection: sqlite3.Connection, state: State, *, entry: Entry, bounds: Bounds, reason: str, detail: str
) -> bool:
    """Copy a delivery to the dead letters, if it is not there already. Return False if the dead letters are full."""
    size = len(entry.delivery.body)
    if state.dead_letters >= bounds.deliveries or state.dead_bytes + size > bounds.bytes:
        return False
    number = entry.number if entry.generation == state.generation else None
    now = time.time_ns() // 1_000_000
    # The checksum is copied: that of a damaged delivery must not become valid.
    values = (number, *_values(entry.delivery), entry.checksum, reason, detail[:DETAIL_LENGTH], now)
    if connection.execute(_BURY, values).rowcount:
        state.dead_letters += 1
        state.dead_bytes += size
    return True


def letters(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the number of dead letters, and the `letter` of the newest."""
    count, newest = connection.execute("SELECT count(*), coalesce(max(letter), 0) FROM dead_letters").fetchone()
    return count, newest


def letter_between(connection: sqlite3.Connection, after: int, newest: int) -> DeadLetter | None:
    """Return the oldest dead letter after `after` and up to `newest`, if there is one."""
    row = connection.execute(_LETTER, (after, newest)).fetchone()
    if row is None:
        return None
    number, reason, detail, dead_at, *fields = row
    return DeadLetter(number, Delivery(*fields), reason, detail, dead_at)


def replay(connection: sqlite3.Connection, letter: DeadLetter) -> bool:
    """Append the delivery of a dead letter to the queue and delete the letter; return whether it existed."""
    stored = connection.execute(_STORED, (letter.number,)).fetchone()
    if stored is None or not drop(connection, letter.number):
        return False
    checksum, *fields = stored
    values = _values(letter.delivery)
    # A damaged delivery must not become valid.
    connection.execute(_INSERTS[1], (*values, checksum if values == tuple(fields) else checksum_of(values)))
    return True


def drop(connection: sqlite3.Connection, number: int) -> bool:
    """Delete a dead letter; return whether it existed."""
    return bool(connection.execute("DELETE FROM dead_letters WHERE letter = ?", (number,)).rowcount)


def _recount(connection: sqlite3.Connection, state: State) -> None:
    # Read the version first: if another process writes in between, the rows are counted again.
    state.version = _version(connection)
    state.deliveries, state.bytes = _counted(connection, "deliveries")
    state.dead_letters, state.dead_bytes = _counted(connection, "dead_letters")


def _write_nothing(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA user_version = 0")


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
    """Hand out one that a consumer of this process gave back. That is not a new attempt: no process has crashed.

    It writes all the same: what cannot be written could not be deleted afterwards either.
    """
    first, *others = state.returned
    state.returned = tuple(others)
    state.held += 1
    number, attempts, checksum, *fields = connection.execute(_ONE, (first,)).fetchone()
    _write_nothing(connection)
    return Entry(state.generation, number, attempts, checksum, Delivery(*fields))


def _give_up(connection: sqlite3.Connection, state: State, entry: Entry, bounds: Bounds, reason: str) -> bool:
    detail = (
        "the row does not have its checksum; redeliver the delivery from GitHub"
        if reason == DAMAGED
        else f"handed out {entry.attempts} times and never acked"
    )
    if not bury(connection, state, entry=entry, bounds=bounds, reason=reason, detail=detail):
        return False
    delete(connection, state, [entry])
    return True


def _these(entries: Iterable[Entry]) -> str:
    """Return the parameter of statements about several deliveries."""
    return str([entry.number for entry in entries])  # a JSON text


def _values(one: Delivery) -> tuple[str | bytes | int | None, ...]:
    said = (one.hook_id, one.target_type, one.target_id, one.source, one.host)
    return one.id, one.event, one.body, one.received_at, *said
