"""The transaction in which deliveries are counted.

Several processors may count at the same time. Each delivery ID is inserted once, and rows of subjects are locked before
they are read, so the results are exact. Every statement locks its rows in key order, and all transactions use the
tables in the same order (that of this module and of `SUBJECTS`), so deadlocks do not occur.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.all_subjects import SUBJECTS
from processor.counting.ci_metrics import Tally
from processor.counting.fingerprints import Fingerprint
from processor.counting.fold import News
from processor.counting.jobs import JOBS
from processor.counting.past import Past
from processor.counting.subjects import Rows
from processor.store import past_rows, series_rows
from processor.store.arrays import Arrays
from processor.store.clock import BEGAN
from processor.store.engine import dialect_of
from processor.store.forks import find_forks
from processor.store.recent import RecentRows
from processor.store.subject_rows import subject_rows
from processor.store.tables import deliveries


@cache
def _claim(dialect: str) -> tuple[Arrays, TextClause]:
    arrays = Arrays.of(dialect, [deliveries.c.id])
    return arrays, text(
        f"INSERT INTO deliveries (id, claimed_at) SELECT id, {BEGAN[dialect]} "  # noqa: S608 - our own names
        f"FROM {arrays.source('n')} WHERE true ORDER BY id ON CONFLICT DO NOTHING RETURNING id"
    )


_WAIT_FOR_STANDBY = text("SELECT pg_logical_emit_message(true, 'promgithub', '')")
"""Makes the commit of a transaction that changes no row wait for a synchronous standby, as one that does."""


class BatchTransaction:
    """The statements of one batch, on one connection. The methods must be called in the order of their definition."""

    def __init__(self, connection: AsyncConnection, max_series: int, recent: RecentRows, *, hold: bool) -> None:
        """`max_series` is the maximum number of series per metric, without the overflow series.

        `hold` is True if new series start held. `recent` has keys of series and gauge labels that are known to exist;
        see `written`.
        """
        self._connection = connection
        self._dialect = dialect_of(connection)
        self._max_series = max_series
        self._hold = hold
        self._recent = recent
        self.written: list[Fingerprint] = []
        """Keys of series and gauge labels that exist after this transaction has committed."""

    async def claim(self, ids: Collection[UUID]) -> set[UUID]:
        """Insert delivery IDs; return the new ones. Waits for another transaction that inserts one of them.

        If a commit is interrupted while it waits for a synchronous standby, PostgreSQL shows its rows although no
        standby may have them (https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION). A
        batch of nothing but duplicates must not be acked before a standby has the rows that make it one.
        """
        arrays, statement = _claim(self._dialect)
        claimed = await self._connection.scalars(
            statement, arrays.bind([[guid] for guid in sorted(ids, key=attrgetter("int"))])
        )
        fresh = {guid if isinstance(guid, UUID) else UUID(hex=guid) for guid in claimed}
        if not fresh and self._dialect == "postgresql":
            await self._connection.execute(_WAIT_FOR_STANDBY)
        return fresh

    async def load(self, news: News) -> Rows:
        """Lock the rows of the facts in `news`, and those that `Subject.touches` returns; return them."""
        return await self._load({name: set(told) for name, told in news.items()}, news)

    async def load_keys(self, wanted: Iterable[tuple[str, tuple[Any, ...]]]) -> Rows:
        """Lock rows by subject name and key, and those that `Subject.touches` returns; return them."""
        keys: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
        for name, key in wanted:
            keys[name].add(key)
        return await self._load(keys, {})

    async def write(self, rows: Rows, tally: Tally, *, news: bool = True) -> Mapping[str, int]:
        """Save the changed rows, and add a tally to the series; missing series are created.

        `news` is True if deliveries changed the rows, which updates `touched_at`. Returns, by metric, how many series
        of the tally went to the overflow series.
        """
        await self._save(rows, news)
        overflows = await series_rows.add(self._connection, tally, self._max_series, self._recent, hold=self._hold)
        if not overflows:
            self.written += [series_rows.stored_series(series)[0] for series in tally.series()]
        return overflows

    async def write_past(self, rows: Rows, began_at: int, counted: Past) -> None:
        """Save the changed rows, and add what the backfill that began at `began_at` (Unix ms) counted.

        Series, sums by hour and the labels of gauges stay as they are.
        """
        for subject in SUBJECTS:
            await subject_rows(subject, self._dialect).save(self._connection, rows.of(subject), news=True)
        await past_rows.add(self._connection, began_at, counted)

    async def _save(self, rows: Rows, news: bool) -> None:
        shown: set[series_rows.GaugeLabels] = set()
        for subject in SUBJECTS:
            own = rows.of(subject)
            await subject_rows(subject, self._dialect).save(self._connection, own, news=news)
            if subject.gauges is not None:
                names, stem = subject.gauges.label_names, subject.gauges.stem
                shown.update(
                    (stem, tuple(zip(names, subject.labels(row.known), strict=True)))
                    for row in own.values()
                    if row.changed and row.known is not None and subject.shown(row.known)
                )
        await series_rows.show(self._connection, shown, self._recent)
        self.written += [series_rows.gauge_row(*labels)[0] for labels in shown]

    async def _load(self, keys: dict[str, set[tuple[Any, ...]]], news: News) -> Rows:
        rows = Rows()
        for subject in SUBJECTS:
            wanted = keys.get(subject.name, ())
            if not wanted:
                continue
            own = rows.of(subject)
            own.update(await subject_rows(subject, self._dialect).load(self._connection, wanted))
            for other, key in subject.touches(news.get(subject.name, {}), own):
                keys.setdefault(other.name, set()).add(key)
        rows.forks = await find_forks(self._connection, JOBS.runs(news.get(JOBS.name, {}), rows.of(JOBS)))
        return rows
