"""PostgreSQL fails over to a standby: processors follow, and the metrics are what the standby's data says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import asyncpg
import pytest_asyncio

from promgithub.simulation.histories import Historian
from tests.support import builders, figures
from tests.support.figures import Figures
from tests.support.github import GitHub, until
from tests.support.processes import Process
from tests.support.servers.postgres import PostgresServer

Start = Callable[..., Process]

WAITING = """
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'promgithub-processor' AND wait_event = 'SyncRep'
"""
"""Ends the sessions whose commits wait for the standby."""


@dataclass(frozen=True)
class Pair:
    """A primary and its standby."""

    primary: PostgresServer
    standby: PostgresServer

    @property
    def url(self) -> str:
        """The URL for whichever of them is the primary."""
        hosts = "&".join(f"host=127.0.0.1:{server.port}" for server in (self.primary, self.standby))
        return f"postgresql://postgres@/postgres?{hosts}"

    async def make_synchronous(self) -> None:
        """Let commits wait for the standby."""
        await execute(self.primary, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")

        async def synchronous() -> bool | None:
            return bool(await ask(self.primary, "SELECT sync_state = 'sync' FROM pg_stat_replication")) or None

        await until(synchronous, 20)

    async def fail_over(self) -> None:
        """Kill the primary, and promote the standby."""
        await self.primary.kill()
        await self.standby.promote()


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[Pair]:
    async with PostgresServer() as primary:
        standby = PostgresServer()
        try:
            await standby.follow(primary)
            yield Pair(primary, standby)
        finally:
            standby.close()


async def execute(server: PostgresServer, *statements: str) -> None:
    connection = await asyncpg.connect(server.url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def ask(server: PostgresServer, question: str) -> object:
    connection = await asyncpg.connect(server.url)
    answer = await connection.fetchval(question)
    await connection.close()
    return answer


async def claimed(server: PostgresServer) -> int:
    """Return how many deliveries a server has."""
    found = await ask(server, "SELECT count(*) FROM deliveries")
    assert isinstance(found, int)
    return found


async def has(server: PostgresServer, deliveries: int) -> bool | None:
    """Return True if a server has so many deliveries, else None."""
    return await claimed(server) == deliveries or None


async def exposed(github: GitHub, processor: Process) -> Figures:
    """Wait until a processor exposes figures about CI; return them."""

    async def shown() -> Figures | None:
        return figures.of_ci(await github.figures(processor)) or None

    return await until(shown, 30)


async def has_duplicates(github: GitHub, *processors: Process) -> None:
    """Wait until deliveries were claimed that were claimed before."""

    async def seen() -> bool | None:
        counted = await github.figures(*processors)
        return figures.total(counted, "promgithub_duplicate_deliveries_seen_total") > 0 or None

    await until(seen, 20)


async def test_a_failover_to_a_synchronous_standby_keeps_every_figure(
    pair: Pair, start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    await pair.make_synchronous()
    receiver, processors = start_receiver(), [start_processor(DATABASE_URL=pair.url) for _ in range(2)]
    await asyncio.gather(*(process.ready() for process in (receiver, *processors)))
    truth = Historian(95).history(840)
    sending = asyncio.create_task(github.send_over(receiver, truth.deliveries, 3))
    await github.drained(*processors, processed=len(truth.deliveries) // 3)
    await pair.fail_over()
    assert await sending == {202: len(truth.deliveries)}
    counted = await github.settled(truth, *processors)
    assert figures.value(counted, "promgithub_dead_letters") == 0


async def test_what_a_synchronous_standby_has_not_confirmed_is_not_acknowledged(
    pair: Pair, start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    await pair.make_synchronous()
    receiver, processor = start_receiver(), start_processor(DATABASE_URL=pair.url)
    await asyncio.gather(receiver.ready(), processor.ready())
    truth = Historian(96).history(420)
    first, second = truth.deliveries[:210], truth.deliveries[210:]
    await github.deliver_all(receiver, first)
    await github.drained(processor, processed=len(first))

    await pair.standby.stop()
    await github.deliver_all(receiver, second)

    async def committed() -> bool | None:
        """Interrupt commits, which PostgreSQL then shows, until some of the second half are among them."""
        await ask(pair.primary, WAITING)
        return await claimed(pair.primary) > len(first) or None

    await until(committed, 20)
    await has_duplicates(github, processor)
    await pair.primary.kill()
    await pair.standby.start()
    await pair.standby.promote()
    await github.settled(truth, processor)


async def test_a_failover_to_a_standby_that_lags_loses_what_only_the_primary_had_until_it_is_delivered_again(
    pair: Pair, start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, processor = start_receiver(), start_processor(DATABASE_URL=pair.url)
    await asyncio.gather(receiver.ready(), processor.ready())
    truth = Historian(97).history(630)
    replicated, lost, after = truth.deliveries[:210], truth.deliveries[210:420], truth.deliveries[420:]
    await github.deliver_all(receiver, replicated)
    await until(lambda: has(pair.standby, len(replicated)), 20)
    await pair.standby.stop()
    await github.deliver_all(receiver, lost)
    await until(lambda: has(pair.primary, len(replicated) + len(lost)), 20)

    await pair.primary.kill()
    await pair.standby.start()
    await pair.standby.promote()
    await github.deliver_all(receiver, after)
    await until(lambda: has(pair.standby, len(replicated) + len(after)), 30)
    figures.assert_never_down(await exposed(github, processor), truth.truth.at_once)

    await pair.primary.follow(pair.standby)
    await processor.terminate()
    processor.start()
    await processor.ready()
    await github.deliver_all(receiver, truth.deliveries)
    counted = await github.settled(truth, processor)
    assert figures.value(counted, "promgithub_dead_letters") == 0
    assert await ask(pair.primary, "SELECT pg_is_in_recovery()")


async def test_a_gauge_that_only_the_primary_had_falls_to_zero_once_it_is_delivered_again(
    pair: Pair, start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, processor = start_receiver(), start_processor(DATABASE_URL=pair.url)
    await asyncio.gather(receiver.ready(), processor.ready())
    queued = builders.delivery(builders.job())
    await pair.standby.stop()
    await github.deliver(receiver, queued)
    await until(lambda: has(pair.primary, 1), 20)
    await pair.primary.kill()
    await pair.standby.start()
    await pair.standby.promote()

    await github.deliver(receiver, queued)
    await until(lambda: has(pair.standby, 1), 30)
    await github.deliver(receiver, builders.delivery(builders.job(status="completed", conclusion="success")))
    await until(lambda: has(pair.standby, 2), 20)

    async def queued_jobs() -> list[float] | None:
        """Return the gauges of queued jobs once none of them is above zero."""
        shown = await exposed(github, processor)
        gauges = [value for (name, _), value in shown.items() if name == "promgithub_job_queued"]
        return None if any(gauges) else gauges

    assert await until(queued_jobs, 20) == [0], "a gauge that vanishes is not zero"
