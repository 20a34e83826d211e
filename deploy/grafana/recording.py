"""A real run for the pictures: an installation under a made-up history of CI in real time, scraped by Prometheus."""

import asyncio
import json
import random
import secrets
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promgithub.simulation.histories import SPAN, TICKS_BEFORE_1970, Historian
from shared.delivery import Delivery
from tests import builders
from tests.github import SECRET, GitHub, until
from tests.processes import Launcher, Process
from tests.servers.postgres import PostgresServer, fresh_database
from tests.servers.private import PrivateServer
from tests.servers.prometheus import PrometheusServer
from tests.servers.rabbitmq import RabbitServer

SCRAPE_SECONDS = 5

_DELIVERIES = 12_000  # in the two hours of which the run plays the beginning
_BEFORE = 4000  # in the two hours before the run
_LOST, _DUPLICATES, _FORGERIES = 0.01, 0.05, 0.01  # shares
_OUTAGE_SECONDS = 45.0


@dataclass(frozen=True, slots=True)
class Recording:
    """What there is to draw: a Prometheus, and the Unix seconds between which it has scraped."""

    prometheus: PrometheusServer
    start: float
    end: float


@asynccontextmanager
async def record(seconds: float) -> AsyncIterator[Recording]:
    """Run a receiver and two processors for so long and give what Prometheus has of it.

    The lease holder, PostgreSQL and RabbitMQ each go away once, for less than a minute; a few deliveries are
    duplicates, forged or poison.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promgithub-pictures-")))
        rabbit, postgres = RabbitServer(), PostgresServer()
        await stack.enter_async_context(rabbit)
        await stack.enter_async_context(postgres)
        database_url = await stack.enter_async_context(fresh_database(postgres.url))
        launcher = Launcher(directory)
        stack.callback(launcher.close)
        queue = {"AMQP_URL": rabbit.url, "QUEUE_NAME": f"pictures.{secrets.token_hex(4)}", "EVENT_QUEUE_SIZE": "1000"}
        receiver = launcher.start("ingest", WEBHOOK_SECRET=SECRET, SPOOL_DIR=str(directory / "spool"), **queue)
        # So few in hand that an outage of seconds shows in the queue.
        few = {"PREFETCH": "20", "BATCH_SIZE": "10"}
        processors = [launcher.start("processor", DATABASE_URL=database_url, **few, **queue) for _ in range(2)]
        for process in (receiver, *processors):
            await process.ready()
        prometheus = PrometheusServer(_config(receiver, processors))
        github = await stack.enter_async_context(GitHub())
        await _play_before(github, receiver, processors)
        await stack.enter_async_context(prometheus)
        start = time.time()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_play(github, receiver, seconds))
            tasks.create_task(_poison(github, receiver, seconds))
            tasks.create_task(_lose_the_leader(github, processors, 0.25 * seconds))
            tasks.create_task(_lose(postgres, 0.45 * seconds))
            tasks.create_task(_lose(rabbit, 0.65 * seconds))
        yield Recording(prometheus, start, time.time())


def _config(receiver: Process, processors: list[Process]) -> str:
    jobs = {"promgithub-ingest": [receiver], "promgithub-processor": processors}
    lines = [f"global: {{scrape_interval: {SCRAPE_SECONDS}s}}", "scrape_configs:"]
    for job, processes in jobs.items():
        targets = [process.admin_url.removeprefix("http://") for process in processes]
        lines.append(f"  - {{job_name: {job}, static_configs: [{{targets: {targets}}}]}}")
    return "\n".join(lines)


async def _play_before(github: GitHub, receiver: Process, processors: list[Process]) -> None:
    """Send the two hours before, so that series have begun: the runs that ended, but for some ends that get lost."""
    chance = random.Random(2)  # noqa: S311 - made to be repeated
    deliveries = Historian(2).history(_BEFORE).deliveries
    bodies = [json.loads(delivery.body) for delivery in deliveries]
    last = {_subject(body): body for body in bodies}
    open_runs = {_run(body) for body in last.values() if _status(body) != "completed"}
    sent = [
        delivery
        for delivery, body in zip(deliveries, bodies, strict=True)
        if _run(body) not in open_runs
        and not ("workflow_job" in body and _status(body) == "completed" and chance.random() < _LOST)
    ]
    await github.deliver_all(receiver, sent, over=10)
    await github.drained(*processors, processed=len(sent))


def _run(body: Mapping[str, Any]) -> object:
    """Return which run a delivery is about; None if it is about none."""
    return body["workflow_job"]["run_id"] if "workflow_job" in body else body.get("workflow_run", {}).get("id")


def _subject(body: Mapping[str, Any]) -> tuple[object, ...]:
    """Return which attempt or job a delivery is about."""
    job = body.get("workflow_job", {})
    return _run(body), job.get("run_attempt") or body.get("workflow_run", {}).get("run_attempt"), job.get("id")


def _status(body: Mapping[str, Any]) -> str:
    """Return the status of the attempt or job; what has none is complete."""
    status = body.get("workflow_job", body.get("workflow_run", {})).get("status", "completed")
    waits = body.get("workflow_run", {}).get("conclusion") == "action_required"
    return "waiting" if waits else str(status)


async def _play(github: GitHub, receiver: Process, seconds: float) -> None:
    """Send what happens in the first `seconds` of a history, each delivery when it happens."""
    began = time.time()
    chance = random.Random(1)  # noqa: S311 - made to be repeated
    async with asyncio.timeout(seconds + 60), asyncio.TaskGroup() as sending:
        for delivery in Historian(1, now=began + SPAN).history(_DELIVERIES).deliveries:
            after = _moment(delivery) - began
            if after > seconds:
                break
            await asyncio.sleep(max(0.0, began + after - time.time()))
            sending.create_task(github.deliver(receiver, delivery))
            if chance.random() < _DUPLICATES:
                sending.create_task(github.deliver(receiver, delivery, after=chance.uniform(0, 5)))
            if chance.random() < _FORGERIES:
                sending.create_task(github.send(receiver, delivery, "forged"))
        await asyncio.sleep(max(0.0, began + seconds - time.time()))


def _moment(delivery: Delivery) -> float:
    return (uuid.UUID(delivery.id).time - TICKS_BEFORE_1970) / 10_000_000


async def _poison(github: GitHub, receiver: Process, seconds: float) -> None:
    """Send, twice, a delivery that cannot be decoded and one that cannot be true."""
    backwards = builders.job(1, status="completed", conclusion="success", started=60, completed=30, runner=1)
    for _ in range(2):
        await asyncio.sleep(0.3 * seconds)
        await github.deliver(receiver, builders.delivery({"workflow_job": {"id": "one"}}, event="workflow_job"))
        await github.deliver(receiver, builders.delivery(backwards))


async def _lose_the_leader(github: GitHub, processors: list[Process], after: float) -> None:
    async def leader() -> Process | None:
        pages = [await github.scrape(processor) for processor in processors]
        exposing = zip(processors, ("promgithub_exporter_leader 1.0" in page for page in pages), strict=True)
        return next((processor for processor, exposes in exposing if exposes), None)

    await asyncio.sleep(after)
    lost = await until(leader, _OUTAGE_SECONDS)
    await lost.kill()
    await asyncio.sleep(_OUTAGE_SECONDS)
    lost.start()


async def _lose(server: PrivateServer, after: float) -> None:
    await asyncio.sleep(after)
    await server.stop()
    await asyncio.sleep(_OUTAGE_SECONDS)
    await server.start()
