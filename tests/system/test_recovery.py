"""Lost deliveries are recovered through GitHub's API, and all metrics are correct afterwards."""

import asyncio
import json
import random
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from promgithub.commands.data_directories import SPOOL
from promgithub.simulation.histories import Historian, History
from shared.brokers.spool import SpoolBroker
from shared.delivery import Delivery
from shared.settings import SPOOL_MAX_BYTES
from tests.support import builders, figures
from tests.support.fake_github import HOOK, TOKEN, FakeGitHub
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import PROMGITHUB, Launcher, Process

Start = Callable[..., Process]

HOST = "127.0.0.1"
"""The host of this GitHub's API, and so of its repositories: to promgithub it is an Enterprise Server."""


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeGitHub]:
    async with FakeGitHub() as server:
        yield server


@dataclass(frozen=True)
class Form:
    """A running promgithub of some form, and how the commands reach it."""

    receiver: Process
    processor: Process
    options: Sequence[str]
    environment: Mapping[str, str]

    async def run(self, command: str, *arguments: str) -> str:
        """Run a command to its good end; return what it printed."""
        done = await asyncio.to_thread(
            subprocess.run,
            [PROMGITHUB, command, *arguments, *self.options],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done
        return done.stdout.splitlines()[-1]


def reached(api: FakeGitHub) -> dict[str, str]:
    """Return the settings for GitHub's API."""
    return {"GITHUB_API_URL": api.url, "GITHUB_TOKEN": TOKEN, "GITHUB_HOOKS": HOOK, "RECONCILE_AFTER": "1s"}


def environment(**settings: str) -> Mapping[str, str]:
    return {f"PROMGITHUB_{name}": value for name, value in settings.items()} | {"PROMGITHUB_LOG_LEVEL": "error"}


@pytest.fixture(params=["rabbitmq", "standalone"])
def form(request: pytest.FixtureRequest) -> Form:
    """Give promgithub in each form in turn."""
    form: Form = request.getfixturevalue(f"on_{request.param}")
    return form


@pytest.fixture
def on_rabbitmq(
    api: FakeGitHub,
    start_receiver: Start,
    start_processor: Start,
    amqp_url: str,
    queue_name: str,
    database_url: str,
) -> Form:
    """Give a receiver and a processor that are starting."""
    servers = {"AMQP_URL": amqp_url, "QUEUE_NAME": queue_name, "DATABASE_URL": database_url}
    return Form(start_receiver(), start_processor(GITHUB_HOST=HOST), (), environment(**servers, **reached(api)))


@pytest.fixture
def on_standalone(api: FakeGitHub, launcher: Launcher, tmp_path: Path) -> Form:
    """Give a standalone promgithub that is starting."""
    options = ("--data-dir", str(tmp_path / "data"))
    process = launcher.start("standalone", *options, WEBHOOK_SECRET=SECRET, GITHUB_HOST=HOST)
    return Form(process, process, options, environment(**reached(api)))


def told(delivery: Delivery) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(delivery.body)
    return payload


def never_attempted(history: History, chance: random.Random) -> set[str]:
    """Return the IDs of deliveries that GitHub does not even try: ends of runs and jobs, and that a job ran before."""
    stories: dict[object, list[Delivery]] = {}
    for delivery in history.deliveries:
        payload = told(delivery)
        run = payload.get("workflow_run")
        if run or "workflow_job" in payload:
            key = (run["id"], run["run_attempt"]) if run else payload["workflow_job"]["id"]
            stories.setdefault(key, []).append(delivery)
    ended = [story for story in stories.values() if len(story) > 1 and b'"completed_at":null' not in story[-1].body]
    ended = [story for story in ended if told(story[-1])["action"] == "completed"]
    lost = {story[-1].id for story in chance.sample(ended, 12)}
    ran = [s for s in ended if "workflow_job" in told(s[-1]) and told(s[-2])["action"] == "in_progress"]
    for story in chance.sample([one for one in ran if len(one) > 2], 5):
        lost |= {one.id for one in story[-2:]}
    return lost


@pytest.mark.drill
async def test_a_tenth_dropped_and_the_receiver_down_and_every_figure_is_true_again(
    form: Form, api: FakeGitHub, github: GitHub
) -> None:
    chance = random.Random(31)  # noqa: S311 - a test that fails must fail again
    truth = Historian(31).history(280)
    never = never_attempted(truth, chance)
    api.actions.knows(map(told, truth.deliveries))
    sent = [one for one in truth.deliveries if one.id not in never]
    dropped = {one.id for one in chance.sample(sent, len(sent) // 10)}
    down = {one.id for one in sent[100:140]}
    await asyncio.gather(form.receiver.ready(), form.processor.ready())

    arrived = [one for one in sent if one.id not in dropped | down]
    assert await github.send_all(form.receiver, arrived) == {202: len(arrived)}
    await github.drained(form.processor, processed=len(arrived))
    await form.receiver.kill()
    assert await github.send_all(form.receiver, [one for one in sent if one.id in down]) == {0: len(down)}
    form.receiver.start()
    await form.receiver.ready()
    missed = [one for one in sent if one.id in dropped | down]
    for delivery in missed:
        api.deliveries.failed(delivery, time.time())
    api.deliveries.failed(missed[0], time.time())  # somebody had tried that one again
    api.deliveries.failed(arrived[0], time.time())  # and this one came in by another hook

    count, failed = len(missed), len(missed) + 2
    told_so = f"{HOOK}: {failed} failed attempts, {count} missing, {count} recovered"
    assert await form.run("redeliver") == told_so
    await until(lambda: _shows(github, form, "promgithub_recovered_total", count), 30)
    await asyncio.sleep(1.1)  # RECONCILE_AFTER
    summary = await form.run("reconcile")
    assert " 0 closed as deleted" in summary
    assert int(summary.split(", ")[1].removesuffix(" corrected")) > 0
    await github.settled(truth, form.processor)


async def test_a_processor_with_a_token_recovers_by_itself(
    api: FakeGitHub, launcher: Launcher, github: GitHub, tmp_path: Path
) -> None:
    push, open_job = builders.delivery(builders.push()), builders.job()
    done = builders.job(status="completed", conclusion="success", started=7, completed=67, runner=5)
    api.deliveries.failed(push, time.time())
    api.deliveries.failed(builders.delivery(open_job), time.time())
    api.actions.knows([done])
    settings = {"WEBHOOK_SECRET": SECRET} | reached(api)
    process = launcher.start("standalone", "--data-dir", str(tmp_path / "data"), **settings)
    await process.ready()
    await until(lambda: _shows_on(github, process, "promgithub_recovered_total", 2), 30)
    assert figures.total(await github.figures(process), "promgithub_push_total") == 1
    await process.kill()

    await asyncio.sleep(1.1)  # RECONCILE_AFTER
    process.start()
    await process.ready()
    await until(lambda: _shows_on(github, process, "promgithub_corrected_total", 2), 30)
    await until(lambda: _has_succeeded(github, process, "redeliver"), 30)
    counted = await github.figures(process)
    assert figures.total(counted, "promgithub_job_status_total", job_conclusion="success") == 1
    assert figures.total(counted, "promgithub_job_queued") == 0
    assert figures.total(counted, "promgithub_github_api_limit") == api.limit


async def test_a_command_that_waits_for_github_ends_at_once_when_it_is_told_to(
    api: FakeGitHub, launcher: Launcher, tmp_path: Path
) -> None:
    spool = SpoolBroker(tmp_path / "data" / SPOOL, 10, 1, SPOOL_MAX_BYTES)  # a standalone promgithub that has stopped
    await spool.start()
    await spool.close()
    api.troubles.extend([(200, {}), (429, {"Retry-After": "3600"})])
    process = launcher.start("redeliver", "--data-dir", str(tmp_path / "data"), **reached(api))
    await until(lambda: _asked(api, "GET deliveries"), 20)
    assert await process.terminate(within=10) == 1
    assert "promgithub: stopped before the end" in process.log


async def _has_succeeded(github: GitHub, process: Process, task: str) -> bool | None:
    counted = await github.figures(process)
    return figures.total(counted, "promgithub_recovery_last_success_timestamp_seconds", task=task) > 0 or None


async def _asked(api: FakeGitHub, what: str) -> bool | None:
    return api.requests[what] > 0 or None


async def _shows(github: GitHub, form: Form, name: str, value: float) -> bool | None:
    return await _shows_on(github, form.processor, name, value)


async def _shows_on(github: GitHub, process: Process, name: str, value: float) -> bool | None:
    return figures.total(await github.figures(process), name) == value or None
