"""The cost of a large store."""

from collections.abc import AsyncIterator

import asyncpg

from bench.drained import drain, fastest
from bench.queues import rabbit_queue
from bench.result import Result, at_least_times
from bench.stage import Stage

_DELIVERIES = 12_000
_ROUNDS = 3
_STATEMENT_SECONDS = 300.0
_DAY = 86_400_000

# IDs go down, so that they differ from those of later deliveries. The closed rows of a drain are copied repeatedly.
_COPIES = {
    "jobs": (
        0.25,
        (
            "INSERT INTO jobs (host, job_id, run_id, attempt, state, flags, touched_at, closed_at) SELECT "
            "host, job_id - n * 1000000000, run_id - n * 1000000000, attempt, state, flags, touched_at, closed_at "
            "FROM jobs, generate_series(1, $1::bigint) n WHERE closed_at IS NOT NULL"
        ),
    ),
    "runs": (
        0.1,
        (
            "INSERT INTO runs (host, run_id, attempt, state, flags, touched_at, closed_at) SELECT "
            "host, run_id - n * 1000000000, attempt, state, flags, touched_at, closed_at "
            "FROM runs, generate_series(1, $1::bigint) n WHERE closed_at IS NOT NULL"
        ),
    ),
    "executions": (
        0.45,
        (
            "INSERT INTO executions (fingerprint, state, flags, touched_at) SELECT gen_random_uuid(), state, flags, "
            "touched_at FROM executions, generate_series(1, $1::bigint) n"
        ),
    ),
}
_CLOSED = {
    "jobs": "SELECT count(*) FROM jobs WHERE closed_at IS NOT NULL",
    "runs": "SELECT count(*) FROM runs WHERE closed_at IS NOT NULL",
    "executions": "SELECT count(*) FROM executions",
}
_TABLES = ("deliveries", "runs", "jobs", "executions")
_ROW_BYTES = "SELECT (pg_total_relation_size(oid) / greatest(reltuples, 1))::float8 FROM pg_class WHERE relname = $1"
_DELIVERIES_SHARE = 0.2
_OLD_DELIVERIES = (
    "INSERT INTO deliveries (id, claimed_at) SELECT gen_random_uuid(), "
    "(extract(epoch FROM now()) * 1000)::bigint - $2::bigint + n FROM generate_series(1, $1::bigint) n"
)


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure how fast one processor drains into a store with 5 million tracked rows, beside an empty one."""
    rows = stage.scale.tracked_rows
    async with rabbit_queue(stage) as queue, stage.database() as url:
        await drain(queue, url, _DELIVERIES)
        stage.tell(f"adding {rows} runs, jobs, executions and deliveries to the store")
        sizes = await enlarge(url, rows)
        empties, larges = [], []
        for _ in range(_ROUNDS):
            async with stage.database() as empty_url:
                empties.append(await drain(queue, empty_url, _DELIVERIES))
            larges.append(await drain(queue, url, _DELIVERIES))
    empty, large = fastest(empties), fastest(larges)
    yield Result(
        f"drain with {rows:,} tracked rows",
        large.rate,
        "/s",
        "deliveries counted per second by one processor, from RabbitMQ into a PostgreSQL whose tables hold so many "
        "executions (45 %), closed jobs (25 %), delivery IDs (20 %) and closed runs (10 %), with their indexes, "
        f"analyzed; ceiling: the same into an empty database, in turns; the fastest of {_ROUNDS} rounds",
        ceiling=empty.rate,
        target=at_least_times(0.8),
        details={**large.details(), **sizes},
    )


async def enlarge(url: str, rows: int) -> dict[str, float]:
    """Add rows; return the bytes on disk of each row of each table, with its indexes."""
    connection = await asyncpg.connect(url, command_timeout=_STATEMENT_SECONDS)
    try:
        for table, (share, statement) in _COPIES.items():
            closed = await connection.fetchval(_CLOSED[table])
            await connection.execute(statement, round(rows * share / closed))
        await connection.execute(_OLD_DELIVERIES, round(rows * _DELIVERIES_SHARE), _DAY)
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
        return {f"bytes_per_row_of_{table}": await connection.fetchval(_ROW_BYTES, table) for table in _TABLES}
    finally:
        await connection.close()
