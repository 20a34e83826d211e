"""Records what the current code writes, as a release that later ones must understand.

`python -m tests.support.record_release 0.1.0` writes `tests/releases/0.1.0/`. It needs a RabbitMQ and a PostgreSQL, and
finds them as the tests do. Times by the clock are replaced by `START`, so that the same code writes the same record.
"""

import asyncio
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus
from uuid import UUID

import sqlalchemy
from sqlalchemy import Connection, MetaData, event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.validation import FORM, JSON, read_delivery
from processor.counting.events import Policy, interpret
from processor.counting.fold import news_of
from processor.counting.label_values import BranchPolicy
from processor.counting.past import Span, count_past
from processor.counting.runner_classes import RunnerClasses
from processor.counting.subjects import Fact
from processor.store import held_series, past_rows, recovery
from processor.store.engine import create_engine
from processor.store.migrating import migrate
from shared.brokers.interface import Broker
from shared.brokers.rabbitmq import RabbitBroker, Topology
from shared.brokers.rabbitmq.topology import DEFAULT_QUEUE
from shared.brokers.spool import SpoolBroker
from shared.brokers.spool.file import FILE
from shared.delivery import RECONCILED, RECOVERED, Delivery
from shared.logs import configure
from shared.settings import SPOOL_MAX_BYTES, CommonSettings
from tests.support import builders, recorded
from tests.support.builders import Payload
from tests.support.recorded import Described, describe
from tests.support.servers.discovery import find_postgres, find_rabbit, start_all
from tests.support.servers.postgres import fresh_database
from tests.support.servers.rabbitmq import remove_queue, take_all
from tests.support.worker import HOME, Worker

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
"""When the recorded history begins."""

HOUR = 3_600_000
READY_SECONDS = 20.0
SPOOLED = 5
"""How many of the deliveries that wait are in the spool, too."""

MADE_BY_MIGRATIONS = ("alembic_version", "locks")
"""Tables whose rows the migrations insert."""

_SPOOL_SCHEMA = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'"

_START = int(START.timestamp() * 1000)


# --- The history ---


def _requests(payloads: Sequence[Payload], first: int, **headers: str | None) -> list[Delivery]:
    """Return the deliveries that the receiver makes of payloads. `first` is the place of the first in the history.

    `headers` replace those that GitHub sends; None leaves one out.
    """
    return [_request(payload, place, headers) for place, payload in enumerate(payloads, first)]


def _request(payload: Payload, place: int, changed: dict[str, str | None]) -> Delivery:
    sent = {
        "X-GitHub-Delivery": builders.guid(place, serial=place),
        "X-GitHub-Event": builders.event_of(payload),
        "X-GitHub-Hook-ID": "292430182",
        "X-GitHub-Hook-Installation-Target-Type": "organization",
        "X-GitHub-Hook-Installation-Target-ID": "21031067",
    } | {name.replace("_", "-"): value for name, value in changed.items()}
    headers = {name: value for name, value in sent.items() if value is not None}
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    if headers.get("Content-Type") == FORM:
        return read_delivery(headers, FORM, f"payload={quote_plus(body)}".encode(), _START + place)
    return read_delivery(headers, JSON, body.encode(), _START + place)


def _ended(job_id: int, conclusion: str = "success", **fields: Any) -> Payload:
    given = {"started": 5, "completed": 65, "runner": job_id} | fields
    return builders.job(job_id, status="completed", conclusion=conclusion, **given)


GHE = {"X_GitHub_Enterprise_Host": "github.example.com"}


def counted() -> list[Delivery]:
    """Return what the release has counted: ended, open and unsettled work, re-runs, forks, a second host."""
    job, run = builders.job, builders.run
    payloads = [
        run(1),
        run(1, status="in_progress", updated=3),
        job(11, run_id=1),
        job(11, run_id=1, status="in_progress", started=5, runner=11),
        _ended(11, run_id=1),
        _ended(12, "failure", run_id=1, name="lint (3.12)", completed=35),
        _ended(13, "skipped", run_id=1, name="deploy", labels=[], started=0, completed=0, runner=None),
        run(1, status="completed", conclusion="failure", updated=70),
        run(2, status="completed", conclusion="success", branch="feature/x", updated=90, head_repository=builders.FORK),
        _ended(21, run_id=2, branch="feature/x"),
        run(3, status="in_progress", branch=builders.MERGE_QUEUE_BRANCH, updated=3),
        job(31, run_id=3, status="waiting", gate=0, branch=builders.MERGE_QUEUE_BRANCH),
        _ended(14, run_id=1, name="too early", created=30, started=20, completed=60),
        _ended(15, run_id=1, name="report", labels=[], started=0, completed=0, runner=None),
        _ended(16, run_id=1, name="own", labels=["self-hosted", "gpu"], runner_group_name="Default", completed=900),
        _ended(41, run_id=4, labels=["macos-15-xlarge"], repo=builders.repository("acme/cogs", private=True)),
        run(5, status="in_progress", updated=200),
        job(51, run_id=5, status="in_progress", started=9, runner=51),
        job(52, run_id=5),
        builders.push(2),
        builders.pull_request("closed", merged=True),
    ]
    enterprise = [run(5, status="in_progress"), job(51, run_id=5)]
    return _requests(payloads, 1) + _requests(enterprise, 101, **GHE)


def waiting() -> list[Delivery]:
    """Return what is in the queue: each kind of message, and for the store news, and a duplicate."""
    job, run = builders.job, builders.run
    title = builders.pull_request("synchronize")
    title["pull_request"] |= {"title": "It's naïve 🎉"}
    none = dict.fromkeys(
        ("X_GitHub_Hook_ID", "X_GitHub_Hook_Installation_Target_Type", "X_GitHub_Hook_Installation_Target_ID")
    )
    (reconciled,) = _requests([_ended(52, "cancelled", run_id=5)], 205)
    (recovered,) = _requests([run(5, status="completed", conclusion="success", updated=300)], 206)
    return [
        *_requests([_ended(51, run_id=5, started=9)], 201),
        *_requests([builders.push()], 202, **none),
        *_requests([_ended(51, run_id=5)], 203, **GHE),
        *_requests([title], 204, Content_Type=FORM),
        replace(reconciled, source=RECONCILED),
        replace(recovered, source=RECOVERED),
        *_requests([run(1, attempt=2, status="in_progress", began=100, updated=100)], 207),
        *_requests([_ended(17, run_id=1, attempt=2, name="lint (3.12)", created=100, started=105, completed=140)], 208),
        *_requests([job(61, run_id=6, labels=["macos-15-xlarge"])], 209),
        *_requests([job(62, run_id=6, status="waiting", gate=0)], 210),
        *_requests([run(9, status="completed", conclusion="success", head_repository=builders.FORK, updated=9)], 211),
        *_requests([builders.push(2)], 20),  # unlike the state of a job, a push is known by its ID alone
    ]


# --- RabbitMQ and the spool ---


async def _rabbitmq(url: str) -> dict[str, Any]:
    """Publish what is waiting, and dead-letter one more; return what RabbitMQ has of it."""
    queue = f"promgithub.record.{secrets.token_hex(6)}"
    fields = ("event_queue_size", "delivery_limit")
    size, limit = (CommonSettings.model_fields[name].default for name in fields)
    try:
        async with _started(RabbitBroker(url, Topology(queue, size, limit), "record")) as broker:
            (letter,) = _requests([_ended(71, run_id=7)], 301)
            await _dead_letter(broker, letter)
            for delivery in waiting():
                await broker.publish(delivery)
        messages, letters = [await take_all(url, name) for name in (queue, f"{queue}.dead")]
    finally:
        await remove_queue(url, queue)
    usual = Topology(DEFAULT_QUEUE, size, limit)
    return {
        "topology": {
            "exchange": usual.exchange,
            "queue": usual.queue,
            "dead_letter_queue": usual.dead_letter_queue,
            "queue_arguments": dict(usual.queue_arguments),
            "dead_letter_queue_arguments": dict(usual.dead_letter_queue_arguments),
        },
        "messages": [describe(message) for message in messages],
        "dead_letters": [_timeless(describe(letter)) | {"routing_key": usual.dead_letter_queue} for letter in letters],
    }


def _timeless(described: Described) -> dict[str, Any]:
    return {**described, "headers": {name: _timed(value) for name, value in described["headers"].items()}}


async def _spool(directory: Path) -> str:
    """Publish some of what is waiting to a spool, and dead-letter one more; return the SQL of the file."""
    async with _started(SpoolBroker(directory, 1000, 20, SPOOL_MAX_BYTES)) as broker:
        (letter,) = _requests([_ended(71, run_id=7)], 301)
        await _dead_letter(broker, letter)
        for delivery in waiting()[:SPOOLED]:
            await broker.publish(delivery)
    engine = sqlalchemy.create_engine(f"sqlite:///{directory / FILE}")
    with engine.connect() as connection:
        made = connection.scalars(
            text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'")
        )
        script = "".join(f"{statement};\n" for statement in made) + _rows(connection)
    engine.dispose()
    return script


@asynccontextmanager
async def _started(broker: Broker) -> AsyncIterator[Broker]:
    await broker.start()
    try:
        assert await broker.ready_within(READY_SECONDS)
        yield broker
    finally:
        await broker.close()


async def _dead_letter(broker: Broker, delivery: Delivery) -> None:
    await broker.publish(delivery)
    consumer = await broker.consume(1)
    batch = await anext(consumer.batches(1, 0))
    await batch.dead_letter(batch.deliveries[0], "undecodable", "recorded")
    await batch.ack()
    await consumer.release()


# --- The store ---


async def _store(url: str, folder: Path) -> None:
    """Count the history in an empty database, and write its schema, its rows and its figures."""
    engine = create_engine(url, connections=4, application="promgithub-record")
    dialect = engine.dialect.name
    try:
        schema = await _migrated(engine)
        counting = Worker(engine, 10_000, "<default>|main", HOME, hold=True)
        await _count(counting)
        _write(folder / recorded.FIGURES, _figures(await counting.page()))
        async with engine.connect() as connection:
            rows = await connection.run_sync(_rows)
        _write(folder / recorded.schema_file(dialect), schema)
        _write(folder / recorded.ROWS, rows)
        await counting.count(waiting())
        await settle(counting)
        _write(folder / recorded.LATER_FIGURES, _figures(await counting.page()))
        async with engine.connect() as connection:
            states = await connection.run_sync(recorded.states_of)
        _write(folder / recorded.STATES, _json(states))
    finally:
        await engine.dispose()


async def settle(counting: Worker) -> None:
    """Count what waits for the end of news."""
    await counting.age(HOUR / 1000)
    assert await counting.chores().settle()


async def _migrated(engine: AsyncEngine) -> str:
    """Migrate; return the statements that did it."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if not statement.lstrip().startswith(("SELECT", "PRAGMA", "BEGIN")):
            assert not parameters, f"{statement} has parameters, which the record cannot have"
            statements.append(f"{statement.strip()};\n")

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    await migrate(engine)
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    return "".join(statements)


async def _count(counting: Worker) -> None:
    """Count the history: some series are released and others held. Store a backfill and a cursor too."""
    history = counted()
    await counting.count(history[:9])
    async with counting.store.connection() as connection:
        for table in held_series.TABLES:
            await held_series.release(connection, table, 0)
    for start in range(9, len(history), 5):
        await counting.count(history[start : start + 5])
    backfilled = _requests([_ended(81, run_id=8), builders.run(8, status="completed", conclusion="success")], 401)
    policy = Policy(BranchPolicy("<default>|main"), HOME, RunnerClasses())
    facts = [fact for one in backfilled if isinstance(fact := interpret(one, policy), Fact)]
    async with counting.store.batch() as transaction:
        rows = await transaction.load(news_of(facts))
        await transaction.write_past(rows, _START, count_past(rows, facts, Span(_START - 24 * HOUR, _START + HOUR)))
    async with counting.store.connection() as connection:
        await past_rows.begin(connection, _START, _START - 24 * HOUR)
        await recovery.move_cursor(connection, "acme", _START)


def _figures(page: str) -> str:
    """Return the samples of a page that do not change with the clock."""
    lines = (line for line in page.splitlines() if not line.startswith("#"))
    kept = sorted(line for line in lines if "_created{" not in line and "_oldest_age_" not in line)
    return "".join(f"{line}\n" for line in kept)


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _write(file: Path, content: str) -> None:
    """Write a file. What both databases have in common must be the same."""
    assert not file.exists() or file.read_text("utf-8") == content, f"the databases have different {file.name}"
    file.write_text(content, "utf-8")


# --- SQL ---


def _rows(connection: Connection) -> str:
    """Return the INSERT statements of all rows that the release wrote, without times by the clock."""
    return "".join(_inserts(connection))


def _inserts(connection: Connection) -> Iterator[str]:
    found = MetaData()
    found.reflect(connection)
    for table in sorted(found.tables.values(), key=lambda table: table.name):
        rows = connection.execute(select(table)).all() if table.name not in MADE_BY_MIGRATIONS else []
        if values := sorted(", ".join(_literal(_timed(value)) for value in row) for row in rows):
            lines = ",\n".join(f"({one})" for one in values)
            yield f"INSERT INTO {table.name} ({', '.join(table.c.keys())}) VALUES\n{lines};\n"


def _timed(value: Any) -> Any:
    """Return `START` for a time near now, and any other value unchanged."""
    now = time.time() * 1000
    return _START if isinstance(value, int) and abs(value - now) < 2 * HOUR else value


def _literal(value: Any) -> str:
    """Return a literal that PostgreSQL and SQLite both understand."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"CAST({_literal(value.decode())} AS BLOB)"
    if isinstance(value, UUID):
        return f"'{value.hex}'"
    if isinstance(value, bool | int):
        return str(value).lower()
    return "'" + str(value).replace("'", "''") + "'"


# --- The command ---


async def record(folder: Path, amqp_url: str, postgres_url: str) -> None:
    """Write the record into an empty folder. `postgres_url` is of a user who may create databases."""
    builders.START, before = START, builders.START
    try:
        with tempfile.TemporaryDirectory() as scratch:
            _write(folder / recorded.RABBITMQ, _json(await _rabbitmq(amqp_url)))
            _write(folder / recorded.SPOOL, await _spool(Path(scratch) / "spool"))
            await _store(f"sqlite:///{scratch}/store.db", folder)
        async with fresh_database(postgres_url) as url:
            await _store(url, folder)
    finally:
        builders.START = before


async def _main(version: str) -> None:
    """Raises `FileExistsError` if there is a record of the version: what a release wrote does not change."""
    configure("warning")
    servers = await start_all([find_rabbit, find_postgres], os.environ)
    try:
        with tempfile.TemporaryDirectory() as folder:
            await record(Path(folder), *(server.url for server in servers))
            shutil.copytree(folder, recorded.RELEASES / version)
    finally:
        for server in servers:
            server.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
