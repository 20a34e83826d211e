"""A leader loses its connection to the database: another one takes over in time, and two never expose together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from processor.store.lease import TTL
from promgithub.simulation.histories import Historian, History
from tests.support import figures
from tests.support.figures import Figures
from tests.support.github import GitHub, until
from tests.support.processes import Process
from tests.support.proxy import Proxy

TAKEOVER_SECONDS = 15.0
SCRAPE_SECONDS = 0.1
WATCHED_AFTERWARDS = 5.0

Start = Callable[..., Process]


@dataclass(frozen=True)
class Page:
    """What one scrape said about CI, and between which two moments (event loop's clock) it was made."""

    asked: float
    answered: float
    leads: bool
    ci: Figures

    @property
    def exposes(self) -> bool:
        """Whether it says anything that only one processor may say."""
        return self.leads or bool(self.ci)


@dataclass(frozen=True)
class Candidate:
    """A processor that may lead, its own way to the database, and what it has been scraped for."""

    processor: Process
    proxy: Proxy
    pages: list[Page]

    @property
    def leads(self) -> bool:
        """Whether the last page says so."""
        return bool(self.pages) and self.pages[-1].leads

    def exposing(self, since: float = 0) -> list[Page]:
        """Return the pages asked for `since` then that expose."""
        return [page for page in self.pages if page.exposes and page.asked >= since]


def clock() -> float:
    return asyncio.get_running_loop().time()


@pytest_asyncio.fixture
async def candidates(database_url: str, start_processor: Start) -> AsyncIterator[Sequence[Candidate]]:
    """Give two processors that are ready, each with a proxy to the database."""
    async with Proxy(database_url) as one, Proxy(database_url) as other:
        made = [Candidate(start_processor(DATABASE_URL=proxy.url), proxy, []) for proxy in (one, other)]
        await asyncio.gather(*(candidate.processor.ready() for candidate in made))
        yield made


@asynccontextmanager
async def watched(github: GitHub, candidates: Iterable[Candidate]) -> AsyncIterator[None]:
    """Scrape every candidate all the time."""

    async def watch(candidate: Candidate) -> None:
        while True:
            asked = clock()
            counted = await github.figures(candidate.processor)
            leads = figures.total(counted, "promgithub_exporter_leader") == 1
            candidate.pages.append(Page(asked, clock(), leads, figures.of_ci(counted)))
            await asyncio.sleep(SCRAPE_SECONDS)

    watching = [asyncio.create_task(watch(candidate)) for candidate in candidates]
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        ended = await asyncio.gather(*watching, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def leader_and_heir(candidates: Sequence[Candidate]) -> tuple[Candidate, Candidate]:
    """Wait until one of the candidates leads; return it and the other."""

    async def leader() -> Candidate | None:
        return next((candidate for candidate in candidates if candidate.leads), None)

    leads = await until(leader, TAKEOVER_SECONDS)
    return leads, next(candidate for candidate in candidates if candidate is not leads)


async def leads(candidate: Candidate, within: float) -> None:
    async def sees() -> bool | None:
        return candidate.leads or None

    await until(sees, within)


def assert_one_after_the_other(leader: Candidate, heir: Candidate) -> None:
    """Check that the leader had exposed for the last time before the heir did for the first.

    A page was made at some moment between asked and answered. So this fails only if the leader certainly exposed
    after the heir had, and the heir did not lose its lease in between.
    """
    last, first = leader.exposing()[-1], heir.exposing()[0]
    assert last.asked < first.answered, (last, first)


async def counted(github: GitHub, receiver: Process, candidates: Sequence[Candidate]) -> History:
    """Send a history and wait until a page shows all of it."""
    truth = Historian(51).history(280)
    assert await github.send_all(receiver, truth.deliveries) == {202: len(truth.deliveries)}

    async def shown() -> bool | None:
        return any(one.pages and one.pages[-1].ci == truth.truth.at_once for one in candidates) or None

    await until(shown, 30)
    return truth


@pytest.mark.drill
async def test_a_leader_cut_off_from_the_database_is_followed_and_never_exposes_beside_its_heir(
    start_receiver: Start, github: GitHub, candidates: Sequence[Candidate]
) -> None:
    receiver = start_receiver()
    await receiver.ready()
    async with watched(github, candidates):
        leader, heir = await leader_and_heir(candidates)
        truth = await counted(github, receiver, candidates)

        leader.proxy.black_hole()
        since = clock()
        await leads(heir, TAKEOVER_SECONDS)
        await leader.proxy.heal()
        await leader.processor.ready()
        await asyncio.sleep(WATCHED_AFTERWARDS)
        assert not leader.exposing(since + TTL)
        assert_one_after_the_other(leader, heir)
        assert {page.leads for page in heir.pages if page.asked >= heir.exposing()[0].asked} == {True}
        assert all(page.ci == truth.truth.at_once for page in heir.exposing())

        gone = clock()
        heir.proxy.black_hole()
        await leads(leader, TAKEOVER_SECONDS)
        assert not heir.exposing(gone + TTL)
        assert leader.pages[-1].ci == truth.truth.at_once
        await heir.proxy.heal()


async def test_another_processor_takes_over_from_a_leader_cut_off_while_it_renews_its_lease(
    github: GitHub, candidates: Sequence[Candidate]
) -> None:
    async with watched(github, candidates):
        leader, heir = await leader_and_heir(candidates)
    leader.proxy.black_hole_before(b"COMMIT")

    async def cut_off() -> bool | None:
        return leader.proxy.black_holed or None

    await until(cut_off, TTL)
    async with watched(github, [heir]):
        await leads(heir, TAKEOVER_SECONDS)
