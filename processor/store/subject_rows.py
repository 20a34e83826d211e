"""Loads, locks and saves the rows of any subject, each in one statement over arrays.

A state that this release cannot read counts as unknown. The row's flags remain valid.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Boolean, Table, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.fingerprints import Fingerprint
from processor.counting.subjects import Row, Subject
from processor.store.arrays import Arrays, hexadecimal
from processor.store.clock import BEGAN
from processor.store.tables import SUBJECT_TABLES
from shared.errors import StoreUnavailable
from shared.logs import get_logger

_ENCODER = msgspec.json.Encoder()
_log = get_logger(__name__)


class SubjectRows:
    """The statements for one subject in one dialect."""

    def __init__(self, subject: Subject[Any, Any], dialect: str) -> None:
        self._subject = subject
        self._decoder = msgspec.json.Decoder(subject.known)
        self._warned = False
        table = SUBJECT_TABLES[subject.name]
        kinds = subject.key.__annotations__
        keys = list(kinds)
        self._keys = Arrays.of(dialect, (table.c[name] for name in keys))
        self._fingerprints = [place for place, kind in enumerate(kinds.values()) if kind is Fingerprint]
        joined = " AND ".join(f"t.{name} = k.{name}" for name in keys)
        ordered = ", ".join(keys)
        self._make = text(
            f"INSERT INTO {table.name} ({ordered}, flags, touched_at) "  # noqa: S608 - our own names
            f"SELECT {ordered}, 0, {BEGAN[dialect]} FROM {self._keys.source('k')} WHERE true ORDER BY {ordered} "
            f"ON CONFLICT DO NOTHING RETURNING {ordered}"
        )
        lock = "FOR UPDATE OF t" if dialect == "postgresql" else ""
        own = ", ".join(f"t.{name}" for name in keys)
        self._lock = text(
            f"SELECT {own}, t.state, t.flags FROM {table.name} AS t "  # noqa: S608
            f"JOIN {self._keys.source('k')} ON {joined} ORDER BY {own} {lock}"
        )
        self._saved, self._save = _saving(table, subject, keys, dialect)

    async def load(self, connection: AsyncConnection, keys: Collection[Any]) -> dict[Any, Row[Any]]:
        """Lock the rows of these keys in key order, and create the missing ones; return them.

        Raises `StoreUnavailable` if retention deletes one of them between these two statements.
        """
        wanted = sorted(set(keys))
        if not wanted:
            return {}
        made = await connection.execute(self._make, self._keys.bind(wanted))
        rows: dict[Any, Row[Any]] = {self._key(key): Row() for key in made}
        if old := [key for key in wanted if key not in rows]:
            for *key, state, flags in await connection.execute(self._lock, self._keys.bind(old)):
                known = self.read(state)
                rows[self._key(key)] = Row(known, flags, loaded=known)
        self._check(len(rows), len(wanted))
        return rows

    async def save(self, connection: AsyncConnection, rows: Mapping[Any, Row[Any]], *, news: bool) -> None:
        """Save the changed rows, which must be locked. `news` is True if a delivery changed them (`touched_at`).

        Raises `StoreUnavailable` if one of them no longer exists.
        """
        changed = [self._values(key, row, news) for key, row in sorted(rows.items(), key=_by_key) if row.changed]
        if changed:
            saved = await connection.execute(self._save, self._saved.bind(changed))
            self._check(saved.rowcount, len(changed))

    def read(self, state: str | None) -> Any:
        """Decode a stored state. Returns None if there is none, or if this release cannot read it."""
        if state is None:
            return None
        try:
            return self._decoder.decode(state)
        except (msgspec.MsgspecError, RecursionError) as error:
            if not self._warned:
                self._warned = True
                _log.error("a stored state cannot be read", subject=self._subject.name, error=str(error))
            return None

    def _check(self, found: int, expected: int) -> None:
        """Raise an error that lets the transaction be tried again if rows are missing: they would count twice."""
        if found != expected:
            text = f"{expected - found} of {expected} rows of {self._subject.name}s were deleted meanwhile"
            raise StoreUnavailable(text, "serialization")

    def _key(self, values: Sequence[Any]) -> Any:
        key = list(values)
        for place in self._fingerprints:
            key[place] = hexadecimal(key[place])
        return self._subject.key(*key)

    def _values(self, key: Any, row: Row[Any], news: bool) -> list[Any]:
        subject, known = self._subject, row.known
        values = [*key, None if known is None else _ENCODER.encode(known).decode(), row.flags, news]
        links = {} if known is None else subject.links(known)
        values += [links.get(name) for name in subject.link_columns]
        if subject.gauges is None:
            return values
        phase = None if known is None else subject.phase(known)
        values.append(subject.unsettled(row) or None)
        if known is None or phase is None:
            return [*values, None, None, *(None for _ in subject.gauges.label_names)]
        return [*values, phase.value, subject.since(known), *subject.labels(known)]


def _by_key(item: tuple[Any, Row[Any]]) -> Any:
    return item[0]


def _saving(table: Table, subject: Subject[Any, Any], keys: Sequence[str], dialect: str) -> tuple[Arrays, TextClause]:
    """Return the arrays and the statement of a save."""
    now = BEGAN[dialect]
    gauges = subject.gauges
    columns = ["state", "flags", *subject.link_columns]
    if gauges is not None:
        columns += ["unsettled", "phase", "since", *gauges.label_names]
    # An unreadable state is not overwritten.
    assigned = ["state = coalesce(n.state, t.state)"]
    assigned += [f"{name} = coalesce(n.{name}, t.{name})" for name in subject.link_columns]
    assigned += [f"{name} = n.{name}" for name in columns if name not in {"state", "since", *subject.link_columns}]
    assigned.append(f"touched_at = CASE WHEN n.news THEN {now} ELSE t.touched_at END")
    if gauges is not None:
        # Without a time from GitHub, the age starts now.
        assigned.append(f"since = CASE WHEN n.phase IS NULL THEN NULL ELSE coalesce(n.since, t.since, {now}) END")
        assigned.append(f"closed_at = CASE WHEN n.phase IS NULL THEN coalesce(t.closed_at, {now}) END")
    order = [*keys, "state", "flags", "news", *columns[2:]]
    types = {name: Boolean if name == "news" else type(table.c[name].type) for name in order}
    arrays = Arrays(dialect, types)
    joined = " AND ".join(f"t.{name} = n.{name}" for name in keys)
    statement = f"UPDATE {table.name} AS t SET {', '.join(assigned)} FROM {arrays.source('n')} WHERE {joined}"  # noqa: S608
    return arrays, text(statement)


@cache
def subject_rows(subject: Subject[Any, Any], dialect: str) -> SubjectRows:
    """Return the statements for a subject in a dialect."""
    return SubjectRows(subject, dialect)
