"""Recovery with a fake GitHub API over real HTTP, including its failures, on each kind of store."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from processor.policy import policy_of
from processor.recovery.client import GitHub
from processor.recovery.recovery_metrics import RecoveryMetrics
from processor.recovery.requests import Request
from processor.recovery.service import Recovery, RecoveryContext
from processor.store import lease
from shared.delivery import Delivery
from shared.errors import (
    BrokerUnavailable,
    BusyError,
    GitHubRefused,
    GitHubUnavailable,
    MessageTooLarge,
    NotOnGitHub,
    SettingsError,
)
from shared.settings import ProcessorSettings, Url, parse_duration
from tests.support import builders, figures
from tests.support.fake_github import HOOK, TOKEN, FakeGitHub
from tests.support.servers.ports import free_port
from tests.support.worker import Worker, worker

NOW = time.time()
RUN = Request("run", "/repos/acme/gears/actions/runs/1/attempts/1", "acme/gears", "Actions: read", again=True)


class Clock:
    """Unix seconds that pass when somebody sleeps."""

    def __init__(self) -> None:
        self.now = time.time()
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if seconds > 0.2:  # less is for the pace
            self.slept.append(seconds)


class Queue:
    """A publisher whose deliveries are counted at once; it breaks after so many."""

    def __init__(self, counting: Worker | None, breaks_after: int | None = None) -> None:
        self.counting = counting
        self.published: list[Delivery] = []
        self.breaks_after = breaks_after
        self.available = True

    async def ready_within(self, seconds: float) -> bool:
        return self.available

    async def publish(self, delivery: Delivery) -> None:
        if self.breaks_after == len(self.published):
            raise asyncio.CancelledError
        if delivery.body == b"{}":
            raise MessageTooLarge("of 2 bytes")
        self.published.append(delivery)
        if self.counting is not None:
            await self.counting.count([delivery])


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


def settings_for(api: FakeGitHub, **settings: Any) -> ProcessorSettings:
    given: dict[str, Any] = {"github_api_url": Url(api.url), "github_token": TOKEN}
    return ProcessorSettings(**(given | settings))


@asynccontextmanager
async def client(api: FakeGitHub, clock: Clock | None = None, **settings: Any) -> AsyncIterator[GitHub]:
    clock = clock or Clock()
    metrics = RecoveryMetrics(CollectorRegistry())
    async with GitHub(settings_for(api, **settings), metrics, clock, clock.sleep) as github:
        yield github


@asynccontextmanager
async def recovery(
    api: FakeGitHub, counting: Worker, queue: Queue | None = None, holder: str = "me", **settings: Any
) -> AsyncIterator[Recovery]:
    given: dict[str, Any] = {"github_hooks": HOOK, "reconcile_after": parse_duration("15m")} | settings
    async with client(api, **given) as github:
        own = settings_for(api, **given)
        made = RecoveryContext(own, policy_of(own), counting.store, queue or Queue(counting), holder)
        yield Recovery(made, github)


# --- The client ---


async def test_a_wait_that_github_asks_for_is_waited(api: FakeGitHub) -> None:
    clock = Clock()
    async with client(api, clock) as github:
        await github.get(RUN)
        api.troubles.extend([(429, {"Retry-After": "17"}), (503, {}), (403, {"Retry-After": "5"})])
        assert (await github.get(RUN))["id"] == 1
    assert clock.slept[0] == 17
    assert 2 <= clock.slept[1] <= 2.4
    assert clock.slept[2] == 5


async def test_a_github_that_cannot_be_reached_is_named(api: FakeGitHub) -> None:
    async with client(api, github_api_url=f"http://127.0.0.1:{free_port()}") as github:
        with pytest.raises(GitHubUnavailable, match=r"Cannot connect to host 127\.0\.0\.1:"):
            await github.get(RUN)


async def test_an_answer_that_has_not_changed_costs_nothing_and_one_that_has_is_fetched(api: FakeGitHub) -> None:
    async with client(api) as github:
        first = await github.get(RUN)
        used = api.used
        assert await github.get(RUN) == first
        assert api.used == used
        api.actions.runs[1, 1] = {**first, "conclusion": "failure"}
        assert (await github.get(RUN))["conclusion"] == "failure"
        assert api.used == used + 1


async def test_recovery_stops_when_github_keeps_failing_and_succeeds_later(api: FakeGitHub) -> None:
    async with client(api) as github:
        await github.get(RUN)
        api.troubles.extend([(502, {})] * 5)
        with pytest.raises(GitHubUnavailable, match="502"):
            await github.get(RUN)
        assert (await github.get(RUN))["id"] == 1


async def test_the_budget_is_never_exceeded_and_what_is_left_comes_after_the_reset(api: FakeGitHub) -> None:
    used: list[int] = []

    class Hours(Clock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            if seconds > 60:
                assert seconds == pytest.approx(api.reset - time.time(), abs=60)
                used.append(api.used)
                api.used = 0

    api.limit = 100
    asked = [Request("run", f"/repos/acme/gears/actions/runs/{n}/attempts/1", "acme/gears", "") for n in range(25)]
    api.actions.runs |= {(n, 1): {"id": n} for n in range(25)}
    async with client(api, Hours(), github_api_budget=0.2) as github:
        answers = await asyncio.gather(*map(github.get, asked))
    assert [answer["id"] for answer in answers] == list(range(25))
    assert max(used) == 20


async def test_what_has_not_changed_costs_nothing_of_the_limit(api: FakeGitHub) -> None:
    async with client(api) as github:
        first = await github.get(RUN)
        used = api.used
        assert await github.get(RUN) == first
        assert api.used == used
        api.actions.knows([builders.run(1, status="completed", conclusion="failure", updated=99)])
        assert (await github.get(RUN))["conclusion"] == "failure"


async def test_a_wrong_token_and_a_missing_permission_and_an_unknown_hook_say_what_is_needed(api: FakeGitHub) -> None:
    async with client(api, github_token="wrong") as github:
        with pytest.raises(GitHubRefused, match="PROMGITHUB_GITHUB_TOKEN: GitHub does not accept it"):
            await github.get(RUN)
    api.forbidden.add("/hooks/")
    async with client(api) as github:
        hooks = Request("deliveries", "/repos/acme/gears/hooks/1/deliveries", "acme/gears", "Webhooks: read")
        with pytest.raises(GitHubRefused, match=r"403 .*needs Webhooks: read; GitHub says: repository_hooks=read"):
            await github.page(hooks)
        with pytest.raises(NotOnGitHub, match=r"404 .*needs Actions: read"):
            await github.get(Request("run", "/repos/acme/gears/actions/runs/9/attempts/1", "x", "Actions: read"))


@pytest.fixture(scope="module")
def app_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(kind, form, serialization.NoEncryption()).decode()


async def test_an_app_uses_one_token_for_an_account_and_replaces_it_early_or_when_it_ends(
    api: FakeGitHub, app_key: str
) -> None:
    clock = Clock()
    app: dict[str, Any] = {"github_token": None, "github_app_id": "Iv1.abc", "github_app_key": app_key}
    async with client(api, clock, **app) as github:
        await github.get(RUN)
        await github.get(RUN)
        assert api.apps.minted == 1
        api.apps.tokens = {"revoked"}  # midway
        await github.get(RUN)
        assert api.apps.minted == 2
        clock.now += 3600 - 200
        await github.get(RUN)
        assert api.apps.minted == 3
        assert api.requests["POST access_tokens"] == 3


async def test_an_invalid_private_key_is_a_settings_error(api: FakeGitHub) -> None:
    app: dict[str, Any] = {"github_token": None, "github_app_id": "Iv1.abc", "github_app_key": "none"}
    async with client(api, **app) as github:
        with pytest.raises(SettingsError, match="PROMGITHUB_GITHUB_APP_KEY: not a private key"):
            await github.get(RUN)


# --- Failed deliveries ---


def pushes(count: int) -> list[Delivery]:
    return [builders.delivery(builders.push(), str(UUID(int=1 + number))) for number in range(count)]


async def test_what_failed_is_counted_once_and_the_next_time_begins_where_this_one_ended(
    counting: Worker, api: FakeGitHub
) -> None:
    one, tried_again, counted_already, other = pushes(4)
    await counting.count([counted_already])
    for at, delivery in enumerate((one, tried_again, counted_already, tried_again)):
        api.deliveries.failed(delivery, NOW - 800 + at)
    api.deliveries.failed(builders.delivery({"zen": "x"}, event="ping"), NOW - 800)
    async with recovery(api, counting) as recovering:
        (looked,) = await recovering.redeliver(dry_run=True)
        assert (looked.failed, len(looked.missing), looked.recovered) == (4, 2, 0)
        (done,) = await recovering.redeliver()
        assert (done.recovered, done.error) == (2, None)
        assert figures.total(await counting.figures(), "promgithub_push_total") == 3
        api.deliveries.failed(other, NOW - 100)
        (again,) = await recovering.redeliver()
        assert (again.failed, again.recovered) == (5, 1)  # what was nearly at the same time is looked at again
        (last,) = await recovering.redeliver()
        assert (last.failed, last.recovered) == (1, 0)
    assert figures.total(await counting.figures(), "promgithub_push_total") == 4
    exposed = figures.of_families(counting.metrics.registry.collect())
    assert figures.total(exposed, "promgithub_recovered_total", kind="push", source="repository") == 3


async def test_what_is_recovered_has_the_host_that_its_webhook_says(counting: Worker, api: FakeGitHub) -> None:
    without_the_header, with_the_header = pushes(2)
    api.deliveries.failed(without_the_header, NOW)
    api.deliveries.failed(replace(with_the_header, host="ghes.example.com"), NOW + 1)
    await count_long_ago(counting, builders.run(1, status="in_progress"))
    queue = Queue(counting)
    async with recovery(api, counting, queue) as recovering:
        await recovering.redeliver()
        await recovering.reconcile()
    assert [one.host for one in queue.published] == ["127.0.0.1", "ghes.example.com", "127.0.0.1"]


async def test_what_cannot_be_fetched_or_kept_does_not_hold_up_the_rest(counting: Worker, api: FakeGitHub) -> None:
    gone, large, fine = pushes(3)
    del api.deliveries.details[api.deliveries.failed(gone, NOW)]
    api.deliveries.failed(Delivery(large.id, "push", b"{}", 0), NOW + 1)
    api.deliveries.failed(fine, NOW + 2)
    async with recovery(api, counting) as recovering:
        (done,) = await recovering.redeliver()
    assert (done.recovered, done.lost) == (1, 2)


async def test_what_github_itself_stumbles_over_is_left_for_later_and_the_rest_is_done(
    counting: Worker, api: FakeGitHub
) -> None:
    numbers = [api.deliveries.failed(delivery, NOW + 700 * place) for place, delivery in enumerate(pushes(3))]
    api.broken.add(f"/{numbers[0]}")
    async with recovery(api, counting) as recovering:
        (first,) = await recovering.redeliver()
        assert (first.recovered, type(first.error)) == (2, GitHubUnavailable)
        api.broken.clear()
        (second,) = await recovering.redeliver()
        assert (second.recovered, second.error) == (1, None)
        api.broken.add("")
        asked = sum(api.requests.values())
        (third,) = await recovering.redeliver()
        assert isinstance(third.error, GitHubUnavailable)
        assert sum(api.requests.values()) == asked + 5


async def test_a_run_for_which_github_fails_does_not_delay_the_others(counting: Worker, api: FakeGitHub) -> None:
    await count_long_ago(counting, *(builders.run(number, status="in_progress") for number in (1, 2)))
    api.actions.knows([builders.run(2, status="completed", conclusion="success", updated=90)])
    api.broken.add("/runs/1/attempts/1")
    async with recovery(api, counting) as recovering:
        with pytest.raises(GitHubUnavailable):
            await recovering.reconcile()
    assert figures.total(await counting.figures(), "promgithub_workflow_status_total", conclusion="success") == 1


async def test_github_is_asked_to_deliver_once_more_instead(counting: Worker, api: FakeGitHub) -> None:
    number = api.deliveries.failed(pushes(1)[0], NOW)
    async with recovery(api, counting) as recovering:
        await recovering.redeliver(via_github=True)
    assert api.deliveries.redelivered == [number]
    assert figures.total(await counting.figures(), "promgithub_push_total") == 0


async def test_the_hook_of_an_app_is_asked_about_as_the_app_itself(
    counting: Worker, api: FakeGitHub, app_key: str
) -> None:
    api.deliveries.failed(pushes(1)[0], NOW)
    app: dict[str, Any] = {"github_token": None, "github_app_id": "Iv1.abc", "github_app_key": app_key}
    async with recovery(api, counting, github_hooks="app", **app) as recovering:
        (done,) = await recovering.redeliver()
    assert (done.recovered, done.error, api.apps.minted) == (1, None, 0)
    assert {path.split("/")[1] for path in api.asked} == {"app"}


async def test_a_hook_that_may_not_be_seen_is_named_and_the_others_are_recovered(
    counting: Worker, api: FakeGitHub
) -> None:
    api.forbidden.add("/orgs/acme/hooks/5/")
    api.deliveries.failed(pushes(1)[0], NOW)
    async with recovery(api, counting, github_hooks=f"acme/5, {HOOK}") as recovering:
        refused, done = await recovering.redeliver()
    assert "/orgs/acme/hooks/5/" in str(refused.error)
    assert "organisation permission Webhooks" in str(refused.error)
    assert done.recovered == 1


async def test_ten_thousand_failures_through_a_crash_in_the_middle_are_fetched_once_each(
    api: FakeGitHub, tmp_path: Path
) -> None:
    deliveries = pushes(9000)
    for place, delivery in enumerate(deliveries + deliveries[:1000]):
        api.deliveries.failed(delivery, NOW + place // 100)
    api.limit = 50_000
    async with worker(f"sqlite:///{tmp_path}/promgithub.db") as counting:
        await counting.count(deliveries[1000:8000])  # which came in by another hook
        queue = Queue(None, breaks_after=900)
        async with recovery(api, counting, queue) as recovering:
            with pytest.raises(asyncio.CancelledError):
                await recovering.redeliver()
            await counting.count(queue.published)
            queue.breaks_after = None
            (done,) = await recovering.redeliver()
        assert (done.failed, done.recovered) == (10_000, 1100)
        assert len({one.id for one in queue.published}) == len(queue.published) == 2000
        assert api.requests["GET deliveries"] == 2 * 100 + 2001


async def test_what_is_done_already_elsewhere_is_not_done_twice_at_once(counting: Worker, api: FakeGitHub) -> None:
    async with counting.store.connection() as connection:
        for name in (lease.REDELIVER, lease.RECONCILE):
            assert await lease.acquire(connection, name, "another", 60_000)
    async with recovery(api, counting) as recovering:
        with pytest.raises(BusyError, match="already running in another"):
            await recovering.redeliver()
        with pytest.raises(BusyError, match="already running in another"):
            await recovering.reconcile()
    async with recovery(api, counting, holder="another") as recovering:
        await recovering.redeliver()
    async with recovery(api, counting) as recovering:  # the lease was let go
        await recovering.redeliver()


# --- What looks stuck ---


async def count_long_ago(counting: Worker, *payloads: builders.Payload) -> None:
    await counting.count([builders.delivery(payload) for payload in payloads])
    await counting.age(3600)


DONE_JOB = builders.job(status="completed", conclusion="success", started=7, completed=67, runner=5)


async def test_github_is_asked_about_what_has_been_open_for_long_and_only_that(
    counting: Worker, api: FakeGitHub
) -> None:
    await count_long_ago(counting, builders.run(1, status="in_progress"), builders.job(), builders.job(2))
    await counting.count([builders.delivery(builders.job(3))])
    api.actions.knows([DONE_JOB, builders.job(2)])
    async with recovery(api, counting) as recovering:
        first, second = await recovering.reconcile(), await recovering.reconcile()
    assert (first.asked, first.corrected, first.deleted.total()) == (3, 2, 0)
    assert (second.asked, second.corrected) == (1, 0)
    counted = await counting.figures()
    assert figures.total(counted, "promgithub_workflow_status_total", conclusion="success") == 1
    assert figures.total(counted, "promgithub_workflow_duration_seconds_sum") == 90
    assert figures.total(counted, "promgithub_job_duration_seconds_sum") == 60
    assert figures.total(counted, "promgithub_job_queued") == 2
    assert api.requests["GET jobs"] == 2  # those of an attempt together


async def test_a_dry_run_names_what_would_change_and_changes_no_figure(counting: Worker, api: FakeGitHub) -> None:
    await count_long_ago(counting, builders.run(9, status="in_progress"), builders.job(7, run_id=9), builders.job())
    api.actions.knows([DONE_JOB])
    before = await counting.figures()
    async with recovery(api, counting) as recovering:
        dry = await recovering.reconcile(dry_run=True)
        assert {**await counting.figures(), **before} == await counting.figures()
        done = await recovering.reconcile()
    assert (dry.asked, dry.corrected, dry.deleted) == (done.asked, done.corrected, done.deleted)
    assert sorted(dry.lines) == sorted(done.lines)
    assert sorted(line.split("\t")[0] + " " + line.split("\t")[-1] for line in dry.lines) == [
        "job closed as deleted",
        "job corrected",
        "run closed as deleted",
    ]


async def test_rows_that_cannot_be_read_do_not_hold_up_the_others(
    counting: Worker, api: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processor.recovery.reconciliation.RECONCILE_CHUNK", 2)
    await count_long_ago(counting, *(builders.run(number, status="in_progress") for number in range(2, 7)))
    await count_long_ago(counting, *(builders.job(number) for number in range(2, 7)))
    async with counting.engine.begin() as connection:
        for table in ("runs", "jobs"):
            await connection.execute(text(f"UPDATE {table} SET state = '[1]'"))  # noqa: S608
    await count_long_ago(counting, builders.run(1, status="in_progress"), builders.job())
    api.actions.knows([DONE_JOB])
    async with recovery(api, counting) as recovering:
        done, again = await recovering.reconcile(), await recovering.reconcile()
    assert (done.asked, done.corrected) == (2, 2)
    assert (again.asked, again.corrected) == (0, 0)


async def test_the_true_event_that_comes_later_changes_nothing(counting: Worker, api: FakeGitHub) -> None:
    await count_long_ago(counting, builders.job())
    api.actions.knows([DONE_JOB])
    async with recovery(api, counting) as recovering:
        await recovering.reconcile()
    before = await counting.figures()
    running = builders.job(status="in_progress", started=7, runner=5)
    await counting.count([builders.delivery(DONE_JOB, builders.guid(67)), builders.delivery(running)])
    assert await counting.figures() == before


async def test_what_github_knows_no_more_is_closed_and_the_true_event_still_wins(
    counting: Worker, api: FakeGitHub
) -> None:
    await count_long_ago(counting, builders.run(9, status="in_progress"), builders.job(7, run_id=9))
    api.actions.repositories["acme/gears"] = builders.repository()
    async with recovery(api, counting) as recovering:
        corrections = await recovering.reconcile()
    assert corrections.deleted == {"run": 1, "job": 1}
    counted = await counting.figures()
    assert figures.total(counted, "promgithub_stale_total", reason="deleted") == 2
    assert figures.total(counted, "promgithub_workflow_in_progress") == 0
    done = builders.job(7, run_id=9, status="completed", conclusion="failure", started=1, completed=5, runner=5)
    await counting.count([builders.delivery(done)])
    assert figures.total(await counting.figures(), "promgithub_job_status_total", job_conclusion="failure") == 1


@pytest.mark.parametrize("hidden", ["the repository", "/actions/", "/actions/runs"])
async def test_nothing_is_closed_in_a_repository_that_the_token_may_not_read(
    counting: Worker, api: FakeGitHub, hidden: str
) -> None:
    await count_long_ago(counting, builders.run(9, status="in_progress"), builders.job(7, run_id=9))
    if hidden == "the repository":
        del api.actions.repositories["acme/gears"]
    else:
        api.forbidden.add(hidden)
        api.actions.repositories["acme/gears"] = builders.repository()
    async with recovery(api, counting) as recovering:
        corrections = await recovering.reconcile()
    assert corrections.deleted.total() == 0
    assert "needs the repository permission" in str(corrections.errors[0])
    assert figures.total(await counting.figures(), "promgithub_workflow_in_progress") == 1


async def test_a_job_that_github_wrongly_reports_as_running_is_closed_only_by_its_age(
    counting: Worker, api: FakeGitHub
) -> None:
    zombie = builders.run(1, status="in_progress")
    await count_long_ago(counting, zombie)
    api.actions.knows([zombie])
    chores = counting.chores()
    await counting.age(36 * 86_400)
    async with recovery(api, counting) as recovering:
        assert (await recovering.reconcile()).corrected == 0
        assert await chores.close_stale() == 1
        assert (await recovering.reconcile()).asked == 0
    counted = await counting.figures()
    assert figures.total(counted, "promgithub_stale_total", reason="too_long_open") == 1
    assert figures.total(counted, "promgithub_workflow_in_progress") == 0


async def test_after_a_crash_in_the_middle_those_not_asked_about_come_first(counting: Worker, api: FakeGitHub) -> None:
    await count_long_ago(counting, *(builders.run(number, status="in_progress") for number in (1, 2, 3)))
    api.actions.knows([builders.run(number, status="in_progress") for number in (2, 3)])
    async with recovery(api, counting, Queue(counting, breaks_after=0)) as recovering:
        with pytest.raises(asyncio.CancelledError):
            await recovering.reconcile()
    api.asked.clear()
    async with recovery(api, counting) as recovering:
        assert (await recovering.reconcile()).corrected == 1
    assert next(path for path in api.asked if "/runs/" in path).split("/")[6] == "2"


async def test_an_unavailable_broker_ends_the_recovery_and_keeps_finished_work(
    counting: Worker, api: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processor.recovery.redelivery.PATIENCE", 0.0)

    class Away(Queue):
        async def publish(self, _delivery: Delivery) -> None:
            raise BrokerUnavailable("away")

    api.deliveries.failed(pushes(1)[0], NOW)
    async with recovery(api, counting, Away(counting)) as recovering:
        with pytest.raises(BrokerUnavailable):
            await recovering.redeliver()
    async with recovery(api, counting) as recovering:
        (done,) = await recovering.redeliver()
    assert done.recovered == 1
