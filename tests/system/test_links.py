"""A network link is slow, cut or silent: answers arrive in time, and no delivery is lost or counted twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from promgithub.simulation.histories import Historian, History
from tests.support import figures
from tests.support.github import PATIENCE, GitHub
from tests.support.processes import Process
from tests.support.proxy import Proxy

SENDING_SECONDS = 3.0
SLOW = 0.05
CUTS = 5
SILENT_SECONDS = PATIENCE + 1
RECOVERY_SECONDS = 20.0

LINKS = ("receiver to broker", "processor to broker", "processor to database")

Start = Callable[..., Process]


@dataclass(frozen=True)
class Pipeline:
    """A receiver and a processor, one link of which goes by way of a proxy."""

    receiver: Process
    processor: Process
    proxy: Proxy


StartPipeline = Callable[[str], Awaitable[Pipeline]]


@pytest_asyncio.fixture
async def start_pipeline(
    amqp_url: str, database_url: str, start_receiver: Start, start_processor: Start
) -> AsyncIterator[StartPipeline]:
    """Give a function that starts a pipeline with a proxy in one of the `LINKS`, and waits until it is ready."""
    async with AsyncExitStack() as stack:

        async def start(link: str) -> Pipeline:
            variable, target = ("DATABASE_URL", database_url) if link.endswith("database") else ("AMQP_URL", amqp_url)
            proxy = await stack.enter_async_context(Proxy(target))
            setting = {variable: proxy.url}
            from_receiver = link.startswith("receiver")
            receiver = start_receiver(**(setting if from_receiver else {}))
            processor = start_processor(**({} if from_receiver else setting))
            await asyncio.gather(receiver.ready(), processor.ready())
            return Pipeline(receiver, processor, proxy)

        yield start


async def recovers(github: GitHub, pipeline: Pipeline, truth: History) -> None:
    """Check that everything is ready again by itself and that the figures become true."""
    await asyncio.gather(pipeline.receiver.ready(RECOVERY_SECONDS), pipeline.processor.ready(RECOVERY_SECONDS))
    counted = await github.settled(truth, pipeline.processor, within=30)
    assert figures.total(counted, "promgithub_dead_letters") == 0


@pytest.mark.parametrize("link", LINKS)
async def test_a_slow_link_delays_and_loses_nothing(start_pipeline: StartPipeline, github: GitHub, link: str) -> None:
    pipeline = await start_pipeline(link)
    truth = Historian(41).history(350)
    pipeline.proxy.delay = SLOW
    assert await github.deliver_all(pipeline.receiver, truth.deliveries, over=SENDING_SECONDS) == 0
    await recovers(github, pipeline, truth)


@pytest.mark.parametrize("link", LINKS)
async def test_a_link_that_is_cut_again_and_again_loses_nothing_and_doubles_nothing(
    start_pipeline: StartPipeline, github: GitHub, link: str
) -> None:
    pipeline = await start_pipeline(link)
    truth = Historian(42).history(350)
    sending = asyncio.create_task(github.deliver_all(pipeline.receiver, truth.deliveries, over=SENDING_SECONDS))
    cut = 0
    for _ in range(CUTS):
        await asyncio.sleep(SENDING_SECONDS / CUTS)
        cut += pipeline.proxy.cut()
    assert cut >= CUTS / 2
    assert (await sending > 0) == link.startswith("receiver")
    await recovers(github, pipeline, truth)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.drill
async def test_a_link_that_passes_nothing_for_longer_than_github_waits_leaves_no_answer_out_and_loses_nothing(
    start_pipeline: StartPipeline, github: GitHub, link: str
) -> None:
    pipeline = await start_pipeline(link)
    truth = Historian(43).history(350)
    sending = asyncio.create_task(github.deliver_all(pipeline.receiver, truth.deliveries, over=SENDING_SECONDS))
    await asyncio.sleep(SENDING_SECONDS / 4)
    pipeline.proxy.black_hole()
    silent = asyncio.create_task(asyncio.sleep(SILENT_SECONDS))
    while not silent.done():
        pages = await github.figures(pipeline.receiver, pipeline.processor)
        assert figures.of_ci(pages) != truth.truth.at_once
        await asyncio.sleep(0.5)
    await pipeline.proxy.heal()
    assert (await sending > 0) == link.startswith("receiver")
    await recovers(github, pipeline, truth)
