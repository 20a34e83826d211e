"""On a real database, over one processor or two, the figures depend on the set of deliveries alone."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.delivery import Delivery
from tests import strategies
from tests.figures import Figures
from tests.servers.postgres import fresh_database
from tests.worker import Worker, worker


class Pair:
    """Two workers on one database, used from code that is not async."""

    def __init__(self, runner: asyncio.Runner, workers: list[Worker]) -> None:
        self._runner = runner
        self._workers = workers

    def figures_after(self, batches: list[list[Delivery]], processors: int) -> Figures:
        """Empty the database, let so many workers share the batches, and return what is exposed then."""
        return self._runner.run(self._figures_after(batches, self._workers[:processors]))

    async def _figures_after(self, batches: list[list[Delivery]], workers: list[Worker]) -> Figures:
        await workers[0].clear()

        async def work(place: int, one: Worker) -> None:
            for batch in batches[place :: len(workers)]:
                await one.count(batch)

        await asyncio.gather(*(work(place, one) for place, one in enumerate(workers)))
        return await workers[0].figures()


@pytest.fixture
def pair(postgres_url: str) -> Iterator[Pair]:
    """Give a pair of workers on a fresh PostgreSQL database."""
    stack = AsyncExitStack()

    async def enter() -> list[Worker]:
        url = await stack.enter_async_context(fresh_database(postgres_url))
        return [await stack.enter_async_context(worker(url)) for _ in range(2)]

    with asyncio.Runner() as runner:
        workers = runner.run(enter())
        yield Pair(runner, workers)
        runner.run(stack.aclose())


def test_any_order_duplication_batching_and_number_of_processors_gives_the_same_figures(pair: Pair) -> None:
    @settings(max_examples=60)
    @given(st.data())
    def converges(data: st.DataObject) -> None:
        deliveries = data.draw(strategies.delivery_sets())
        arrivals = data.draw(strategies.arrivals(deliveries))
        expected = pair.figures_after([deliveries], processors=1)
        assert pair.figures_after(arrivals, processors=data.draw(st.sampled_from([1, 2]))) == expected

    converges()
