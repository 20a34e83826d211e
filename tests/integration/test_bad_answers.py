"""Whatever GitHub's API, or a proxy before it, answers: no crash, no endless wait, no credential for another host."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from uuid import UUID

import pytest
import pytest_asyncio

from processor.chores import Chore, Supervisor
from processor.recovery.hooks import parse_owner
from shared.delivery import Delivery
from shared.errors import GitHubError, GitHubUnavailable
from tests.integration.test_recovery import NOW, RUN, Clock, Queue, client, pushes, recovery
from tests.support import builders
from tests.support.fake_github import TOKEN, FakeGitHub
from tests.support.worker import Holder, Worker, worker

JSON = {"Content-Type": "application/json; charset=utf-8"}
STRANGE = {"Content-Type": "application/json; charset=klingon"}
LIMITS = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "0"}

Answer = tuple[int, bytes, Mapping[str, str]]


@pytest_asyncio.fixture
async def counting(store_url: str) -> AsyncIterator[Worker]:
    """Give a worker of the installation that has this API, on each kind of database in turn."""
    async with worker(store_url, home="127.0.0.1") as made:
        yield made


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeGitHub]:
    """Give GitHub's API; it knows one run, which is done."""
    async with FakeGitHub() as server:
        server.actions.knows([builders.run(1, status="completed", conclusion="success", updated=90)])
        yield server


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"{}", STRANGE),
        (502, b"oops", STRANGE),
        (200, b"[" * 100_000, JSON),
        (502, b'{"a":' * 100_000, JSON),
        (200, b"\xff\xfe{\x00}\x00", JSON),
        (200, b"payload=%7B", {"Content-Type": "application/x-www-form-urlencoded"}),
        (422, b'{"errors": [1, null]}', JSON),
        (422, b"[]", JSON),
        (403, b"{}", JSON | LIMITS | {"X-RateLimit-Reset": "1e30"}),
        (403, b"{}", JSON | LIMITS | {"X-RateLimit-Limit": "inf"}),
        (403, b"{}", JSON | LIMITS | {"X-RateLimit-Remaining": "nan"}),
        (429, b"{}", JSON | {"Retry-After": "inf"}),
        (429, b"{}", JSON | {"Retry-After": "1e30"}),
        (503, b"{}", JSON | {"Retry-After": "9" * 5000}),
        (403, b"{}", JSON | LIMITS | {"X-RateLimit-Reset": "5000000000", "Date": "Mon, 99 Nov 99999 25:61:61 GMT"}),
    ],
    ids=str,
)
async def test_no_answer_is_more_than_an_error_of_ours_and_no_wait_is_longer_than_an_hour(
    api: FakeGitHub, answer: Answer
) -> None:
    clock = Clock()
    async with client(api, clock) as github:
        await github.get(RUN)
        api.proxied.append(answer)
        try:
            await github.get(RUN)
        except GitHubError:
            assert (await github.get(RUN))["id"] == 1
    assert all(seconds <= 3601 for seconds in clock.slept)
    assert sum(clock.slept) <= 2 * 3601


@pytest.mark.parametrize("name", ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"])
@pytest.mark.parametrize("value", ["inf", "1e30", "-1", "nan", "many"])
async def test_an_answer_counts_although_its_limits_cannot_be_read(api: FakeGitHub, name: str, value: str) -> None:
    clock = Clock()
    async with client(api, clock) as github:
        await github.get(RUN)
        api.proxied.append((200, b'{"id": 9}', JSON | LIMITS | {"X-RateLimit-Remaining": "4000", name: value}))
        assert (await github.get(RUN))["id"] == 9
        assert (await github.get(RUN))["id"] == 1
    assert sum(clock.slept) <= 3601


async def test_an_answer_without_an_end_is_not_kept_in_memory(api: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.recovery.session.MOST_BYTES", 1_000_000)
    async with client(api) as github:
        api.proxied.extend([(200, b" " * 1_000_001, JSON)] * 6)
        with pytest.raises(GitHubUnavailable, match="an answer of over 1000000 bytes"):
            await github.get(RUN)


async def test_no_credential_goes_to_another_host_that_an_answer_names(api: FakeGitHub, counting: Worker) -> None:
    async with FakeGitHub() as other:
        api.deliveries.failed(pushes(1)[0], NOW - 60)
        api.deliveries.next_page = f"{other.url}/repos/acme/gears/hooks/1234/deliveries?cursor=1"
        async with recovery(api, counting) as work:
            [outcome] = await work.redeliver()
        assert outcome.error is not None
        assert f"names {other.url} for the next page, and not {api.url}" in str(outcome.error)
        assert other.requests == {}

        async with client(api) as github:
            await github.get(RUN)
            api.proxied.append((307, b"", {"Location": f"{other.url}/repos/acme/gears"}))
            with pytest.raises(GitHubError):
                await github.get(RUN)
        assert TOKEN not in "".join(other.credentials)


async def test_no_webhook_secret_goes_to_another_host_that_an_answer_names(api: FakeGitHub) -> None:
    async with FakeGitHub() as other, client(api) as github:
        await github.get(RUN)
        creation = parse_owner("repo:acme/gears").creation("https://ci.example.com/webhook", "s3cret", ["push"])
        api.proxied.append((307, b"", {"Location": f"{other.url}/repos/acme/gears/hooks"}))
        with pytest.raises(GitHubError, match="hooks: GitHub answers 307"):
            await github.post(creation)
        assert (other.requests, other.hooks.by_scope) == ({}, {})


async def test_a_failure_that_github_dates_in_the_future_does_not_hide_the_failures_until_then(
    api: FakeGitHub, counting: Worker
) -> None:
    now = time.time()
    early, late = pushes(2)
    api.deliveries.failed(early, now + 40 * 86_400)
    async with recovery(api, counting) as work:
        assert [outcome.recovered for outcome in await work.redeliver()] == [1]
        api.deliveries.failed(late, now)
        assert [outcome.recovered for outcome in await work.redeliver()] == [1]


async def test_a_delivery_that_cannot_be_encoded_is_lost_and_the_others_are_recovered(
    api: FakeGitHub, counting: Worker
) -> None:
    missed = [*pushes(2), Delivery(str(UUID(int=77)), "push", rb'{"ref": "\ud800"}', 0)]
    for delivery in missed:
        api.deliveries.failed(delivery, NOW - 60)
    queue = Queue(counting)
    async with recovery(api, counting, queue) as work:
        [outcome] = await work.redeliver()
    assert (outcome.recovered, outcome.lost) == (2, 1)
    assert len(queue.published) == 2


async def test_a_chore_of_recovery_that_fails_is_counted_and_run_again(api: FakeGitHub, counting: Worker) -> None:
    stop = asyncio.Event()

    async with recovery(api, counting, reconcile_after="1s") as work:

        async def redeliver() -> None:
            [outcome] = await work.redeliver()
            if outcome.error is not None:
                raise outcome.error
            stop.set()

        api.proxied.extend([(401, b"{}", JSON)] * 2)
        async with asyncio.timeout(30):
            supervisor = Supervisor(Holder(counting.store, "test"), counting.metrics, counting.store.outage)
            await supervisor.keep(Chore("redeliver", 0.01, redeliver), stop)
    value = counting.metrics.registry.get_sample_value("promgithub_chore_failures_total", {"chore": "redeliver"})
    assert value
