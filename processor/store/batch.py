"""The transaction in which a batch of deliveries is counted.

Two processors may count at once. What keeps them exact: a delivery ID is inserted once; rows of runs and jobs are
locked before they are read; and every statement touches its rows in key order, table after table in the order of this
module, so that nobody waits in a circle.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Table, bindparam, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.fold import RunKey
from processor.lifecycle import Execution, Job, Run, labels, phase, since
from processor.series import METRICS, OVERFLOW, Series, Tally, bucket_index, fingerprint
from processor.store.engine import dialect_of
from processor.store.tables import BUCKET_COLUMNS, counters, deliveries, executions, histograms, jobs, locks, runs

SERIES_LOCK = "series"
"""The row of `locks` that is held while series are added."""

RUN_DECODER = msgspec.json.Decoder(Run)
JOB_DECODER = msgspec.json.Decoder(Job)
_ENCODER = msgspec.json.Encoder()

Row = dict[str, Any]

Admitted = Mapping[Series, tuple[bytes, Series]]
"""For each series that is to grow: the key and the series that does, which is the overflow where there is no room."""


class BatchTransaction:
    """The statements of one batch, on one connection, in the order in which they have to be used."""

    def __init__(self, connection: AsyncConnection, now: int, max_series: int) -> None:
        """`now` (Unix ms) dates what is written; a metric may have `max_series` series."""
        self._connection = connection
        self._now = now
        self._max_series = max_series
        self._insert = postgresql.insert if dialect_of(connection) == "postgresql" else sqlite.insert

    async def claim(self, ids: Collection[UUID]) -> set[UUID]:
        """Record delivery IDs and return those that were new. Waits for a transaction that claims one of them too."""
        rows = [{"id": guid, "claimed_at": self._now} for guid in sorted(ids)]
        statement = self._insert(deliveries).on_conflict_do_nothing().returning(deliveries.c.id)
        return set((await self._connection.scalars(statement, rows)).all())

    async def load_runs(self, keys: Iterable[RunKey]) -> dict[RunKey, Run]:
        """Lock the rows of run attempts, made where missing, and return what is known of those that were there."""
        wanted = sorted(set(keys))
        await self._make(runs, [{"run_id": run_id, "attempt": attempt, "state": ""} for run_id, attempt in wanted])
        key = tuple_(runs.c.run_id, runs.c.attempt)
        statement = (
            select(runs.c.run_id, runs.c.attempt, runs.c.state)
            .where(key.in_(wanted))
            .order_by(runs.c.run_id, runs.c.attempt)
        )
        rows = await self._connection.execute(statement.with_for_update())
        return {(run_id, attempt): RUN_DECODER.decode(state) for run_id, attempt, state in rows if state}

    async def load_jobs(self, ids: Iterable[int]) -> dict[int, Job]:
        """Lock the rows of jobs, made where missing, and return what is known of those that were there."""
        wanted = sorted(set(ids))
        await self._make(jobs, [{"job_id": job_id, "state": ""} for job_id in wanted])
        statement = select(jobs.c.job_id, jobs.c.state).where(jobs.c.job_id.in_(wanted)).order_by(jobs.c.job_id)
        rows = await self._connection.execute(statement.with_for_update())
        return {job_id: JOB_DECODER.decode(state) for job_id, state in rows if state}

    async def claim_executions(self, claims: Mapping[str, Execution]) -> dict[str, Execution]:
        """Record who counts each execution unless somebody does already, and return who does, by fingerprint."""
        keys = {bytes.fromhex(text): claim for text, claim in claims.items()}
        await self._make(
            executions,
            [
                {"fingerprint": key, "claimed_at": self._now, "job_id": claim.job_id, "attempt": claim.attempt}
                for key, claim in sorted(keys.items())
            ],
        )
        columns = executions.c
        statement = select(columns.fingerprint, columns.job_id, columns.attempt).where(columns.fingerprint.in_(keys))
        rows = await self._connection.execute(statement)
        return {key.hex(): Execution(job_id, attempt) for key, job_id, attempt in rows}

    async def save_runs(self, known: Mapping[RunKey, Run]) -> None:
        """Write what is known of run attempts into their rows, which must be locked."""
        rows = [{"k1": key[0], "k2": key[1], **self._tracked(run)} for key, run in sorted(known.items())]
        target = update(runs).where(runs.c.run_id == bindparam("k1"), runs.c.attempt == bindparam("k2"))
        await self._write(target, rows)

    async def save_jobs(self, known: Mapping[int, Job]) -> None:
        """Write what is known of jobs into their rows, which must be locked."""
        rows = [
            {"k1": job_id, "run_id": job.run_id, "attempt": job.attempt, **self._tracked(job)}
            for job_id, job in sorted(known.items())
        ]
        await self._write(update(jobs).where(jobs.c.job_id == bindparam("k1")), rows)

    async def add(self, tally: Tally) -> dict[str, int]:
        """Add to the series, made where missing; return how many series of which metric had no room.

        What has no room goes to the metric's overflow series.
        """
        # Both admissions come before any row is written: the lock in them must not be waited for with rows held.
        counted = await self._admit(counters, tally.counts)
        observed = await self._admit(histograms, {series for series, _ in tally.observations})
        await self._add_counts(tally, counted)
        await self._add_observations(tally, observed)
        return _overflows([*counted.items(), *observed.items()])

    async def _add_counts(self, tally: Tally, admitted: Admitted) -> None:
        rows = {key: self._series_row(series, key) | {"value": 0} for key, series in admitted.values()}
        for series, by in tally.counts.items():
            rows[admitted[series][0]]["value"] += by
        await self._upsert(counters, rows, ("value",))

    async def _add_observations(self, tally: Tally, admitted: Admitted) -> None:
        empty = dict.fromkeys(("sum_ms", *BUCKET_COLUMNS), 0)
        rows = {key: self._series_row(series, key) | empty for key, series in admitted.values()}
        for (series, milliseconds), times in tally.observations.items():
            row = rows[admitted[series][0]]
            row["sum_ms"] += milliseconds * times
            row[BUCKET_COLUMNS[bucket_index(series[0], milliseconds)]] += times
        await self._upsert(histograms, rows, tuple(empty))

    async def _make(self, table: Table, rows: Sequence[Row]) -> None:
        if rows:
            await self._connection.execute(self._insert(table).on_conflict_do_nothing(), rows)

    async def _write(self, statement: Any, rows: Sequence[Row]) -> None:
        if rows:
            await self._connection.execute(statement, rows)

    def _tracked(self, known: Run | Job) -> Row:
        current = phase(known)
        row: Row = dict.fromkeys(("phase", "since", "repository", "branch", "workflow_name", "closed_at"))
        row |= {"state": _ENCODER.encode(known).decode(), "touched_at": self._now}
        if current is None:
            return row | {"closed_at": self._now}
        repository, branch, workflow_name = labels(known)
        began = since(known)
        began = self._now if began is None else began  # so that it ages all the same
        names = {"repository": repository, "branch": branch, "workflow_name": workflow_name}
        return row | names | {"phase": current.value, "since": began}

    def _series_row(self, series: Series, key: bytes) -> Row:
        metric, values = series
        text = _ENCODER.encode(values).decode()
        return {"key": key, "metric": metric, "labels": text, "created_at": self._now, "touched_at": self._now}

    async def _admit(self, table: Table, wanted: Iterable[Series]) -> Admitted:
        """Return for each series the key and series to write to: itself, or its metric's overflow."""
        admitted = {series: (fingerprint(*series), series) for series in wanted}
        if not admitted:
            return admitted
        missing = await self._missing(table, admitted)
        if not missing:
            return admitted
        await self._connection.execute(select(locks).where(locks.c.name == SERIES_LOCK).with_for_update())
        missing = await self._missing(table, {series: admitted[series] for series in missing})
        room = await self._room(table, {metric for metric, _ in missing})
        for series in sorted(missing):
            room[series[0]] -= 1
            if room[series[0]] < 0:
                overflow = overflow_series(series[0])
                admitted[series] = (fingerprint(*overflow), overflow)
        return admitted

    async def _missing(self, table: Table, wanted: Admitted) -> list[Series]:
        keys = {key: series for series, (key, _) in wanted.items()}
        present = await self._connection.scalars(select(table.c.key).where(table.c.key.in_(keys)))
        found = set(present.all())
        return [series for key, series in keys.items() if key not in found]

    async def _room(self, table: Table, metrics: Collection[str]) -> dict[str, int]:
        overflows = [fingerprint(*overflow_series(metric)) for metric in metrics]
        statement = select(table.c.metric, func.count()).where(
            table.c.metric.in_(metrics), table.c.key.not_in(overflows)
        )
        rows = await self._connection.execute(statement.group_by(table.c.metric))
        return dict.fromkeys(metrics, self._max_series) | {metric: self._max_series - n for metric, n in rows}

    async def _upsert(self, table: Table, rows: Mapping[bytes, Row], added: Sequence[str]) -> None:
        statement = self._insert(table)
        grown: Row = {name: table.c[name] + statement.excluded[name] for name in added}
        await self._write(
            statement.on_conflict_do_update(
                index_elements=[table.c.key], set_=grown | {"touched_at": statement.excluded.touched_at}
            ),
            [rows[key] for key in sorted(rows)],
        )


def overflow_series(metric: str) -> Series:
    """Return the series that takes what a full metric has no room for."""
    return metric, (OVERFLOW,) * len(METRICS[metric].labels)


def _overflows(written: Iterable[tuple[Series, tuple[bytes, Series]]]) -> dict[str, int]:
    overflows: dict[str, int] = {}
    for wanted, (_, series) in written:
        if wanted != series:
            overflows[wanted[0]] = overflows.get(wanted[0], 0) + 1
    return overflows
