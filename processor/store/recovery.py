"""The queries of recovery: counted deliveries, cursors of hooks, and open runs and jobs to reconcile."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.subjects import Subject
from processor.store.clock import database_now
from processor.store.engine import dialect_of
from processor.store.subject_rows import subject_rows
from processor.store.tables import SUBJECT_TABLES, cursors, deliveries

K = TypeVar("K", bound=tuple[object, ...])
S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Window:
    """Selects open rows of a host: no delivery for `quiet` ms, and last reconciled before `asked_before` (Unix ms)."""

    host: str
    quiet: int
    asked_before: int
    limit: int


async def now(connection: AsyncConnection) -> int:
    """Return the database's time in Unix ms."""
    return int(await connection.scalar(select(database_now())) or 0)


async def known(connection: AsyncConnection, ids: Collection[UUID]) -> set[UUID]:
    """Return which of these deliveries have been counted."""
    return set(await connection.scalars(select(deliveries.c.id).where(deliveries.c.id.in_(ids))))


async def cursor(connection: AsyncConnection, hook: str) -> int | None:
    """Return the time (Unix ms) until which a hook's failed deliveries have been recovered, or None if never."""
    return await connection.scalar(select(cursors.c.failed_at).where(cursors.c.hook == hook))


async def move_cursor(connection: AsyncConnection, hook: str, failed_at: int) -> None:
    """Store the time until which a hook's failed deliveries have been recovered. It never moves back."""
    insert = postgresql.insert if dialect_of(connection) == "postgresql" else sqlite.insert
    statement = insert(cursors).values(hook=hook, failed_at=failed_at)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[cursors.c.hook],
            set_={"failed_at": statement.excluded.failed_at},
            where=cursors.c.failed_at < statement.excluded.failed_at,
        )
    )


async def open_rows(connection: AsyncConnection, subject: Subject[K, S], window: Window) -> Mapping[K, S | None]:
    """Return the states of open rows in a window, those reconciled longest ago first (index: <table>_open).

    Rows of one run are adjacent, because GitHub lists them together. The state is None if it cannot be read.
    """
    columns = SUBJECT_TABLES[subject.name].c
    keys = [columns[name] for name in subject.key.__annotations__]
    statement = (
        select(*keys, columns.state)
        .where(
            columns.phase.is_not(None),
            columns.host == window.host,
            columns.touched_at < database_now() - window.quiet,
            or_(columns.asked_at.is_(None), columns.asked_at < window.asked_before),
        )
        .order_by(func.coalesce(columns.asked_at, 0), columns.touched_at, columns.run_id, columns.attempt)
        .limit(window.limit)
    )
    reader = subject_rows(subject, dialect_of(connection))
    return {subject.key(*key): reader.read(state) for *key, state in await connection.execute(statement)}


async def asked(connection: AsyncConnection, subject: Subject[K, S], keys: Collection[K]) -> None:
    """Store that these rows are being reconciled now."""
    table = SUBJECT_TABLES[subject.name]
    key = tuple_(*(table.c[name] for name in subject.key.__annotations__))
    await connection.execute(update(table).where(key.in_(sorted(keys))).values(asked_at=database_now()))
