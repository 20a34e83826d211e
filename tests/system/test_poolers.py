"""pgbouncer between the processors and PostgreSQL: which of its modes work, and how one that does not says so."""

import asyncio
import random
from collections.abc import Callable

import pytest

from promgithub.simulation.histories import Historian
from tests.support import figures
from tests.support.github import GitHub
from tests.support.processes import Process
from tests.support.servers.pgbouncer import PgBouncer, PoolMode

Start = Callable[..., Process]

UNNAMED = "?statement_cache_size=0"

FEW = 3
"""Connections to PostgreSQL in transaction mode, which more clients share."""

MANY = 40
"""Connections to PostgreSQL in session mode: at least as many as all processors may have."""


@pytest.mark.parametrize(("mode", "size", "parameters"), [("session", MANY, ""), ("transaction", FEW, UNNAMED)])
@pytest.mark.drill
async def test_behind_a_pooler_that_is_killed_every_figure_is_right_and_another_processor_takes_over(
    mode: PoolMode,
    size: int,
    parameters: str,
    database_url: str,
    start_receiver: Start,
    start_processor: Start,
    github: GitHub,
) -> None:
    truth = Historian(98).history(840)
    deliveries = [*truth.deliveries, *truth.deliveries[::4]]
    random.Random(98).shuffle(deliveries)  # noqa: S311 - a test that fails must fail again
    async with PgBouncer(database_url, mode, pool_size=size) as pooler:
        receiver = start_receiver()
        processors = [start_processor(DATABASE_URL=f"{pooler.url}{parameters}") for _ in range(2)]
        await asyncio.gather(*(process.ready() for process in (receiver, *processors)))
        sending = asyncio.create_task(github.send_over(receiver, deliveries, 3))
        await github.drained(*processors, processed=len(deliveries) // 3)
        await pooler.kill()
        await pooler.start()
        assert await sending == {202: len(deliveries)}
        counted = await github.settled(truth, *processors)
        assert figures.value(counted, "promgithub_dead_letters") == 0
        assert figures.total(counted, "promgithub_exporter_leader") == 1

        leads = [figures.total(await github.figures(one), "promgithub_exporter_leader") == 1 for one in processors]
        leader = processors.pop(leads.index(True))
        await leader.kill()
        await github.settled(truth, *processors)
        for process in processors:
            await process.terminate()


@pytest.mark.drill
async def test_transaction_mode_without_its_parameter_counts_nothing_wrong_and_names_the_remedy(
    database_url: str, start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    truth = Historian(99).history(280)
    async with PgBouncer(database_url, "transaction", pool_size=FEW) as pooler:
        receiver = start_receiver()
        processors = [start_processor(DATABASE_URL=pooler.url) for _ in range(2)]
        await receiver.ready()
        assert await github.send_all(receiver, truth.deliveries) == {202: len(truth.deliveries)}
        for processor in processors:
            await processor.says("set its pool_mode to session, or add statement_cache_size=0 to the URL")
            await processor.terminate()

        processor = start_processor(DATABASE_URL=f"{pooler.url}{UNNAMED}")
        await processor.ready()
        await github.settled(truth, processor)
        await processor.terminate()


async def test_a_pooler_that_refuses_a_parameter_of_the_connection_is_named_with_the_parameter(
    database_url: str, start_processor: Start
) -> None:
    async with PgBouncer(database_url, "session", pool_size=MANY, ignored=()) as pooler:
        processor = start_processor(DATABASE_URL=pooler.url)
        await processor.says("unsupported startup parameter: ")
        assert "ignore_startup_parameters" in processor.log
        await processor.terminate()
