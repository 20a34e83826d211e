"""The simulator accepts correct metrics, and finds and names every manipulated one."""

import asyncio
import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from aiohttp import web

from promgithub.simulation.histories import Historian
from tests.support import builders, figures
from tests.support.figures import Figures
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import PROMGITHUB, Launcher, Process
from tests.support.servers.ports import free_port

Start = Callable[..., Process]

TAKE_A_SERIES = "DELETE FROM counters WHERE metric LIKE '%push%' AND labels LIKE '%acme/gears%' RETURNING key"


async def simulate(*arguments: str, secret: str = SECRET) -> subprocess.CompletedProcess[str]:
    command = [PROMGITHUB, "simulate", *arguments]
    environment = {"PROMGITHUB_WEBHOOK_SECRET": secret, "COLUMNS": "200"}
    return await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


async def simulated(receiver: Process, *processors: Process, seed: int = 1, rate: int = 400) -> dict[str, Any]:
    """Play 600 deliveries with duplicates and disorder, `rate` in a second; return the report."""
    pages = [part for processor in processors for part in ("--metrics", processor.admin_url)]
    options = ["--deliveries", "600", "--duplicates", "0.2", "--disorder", "0.2", "--burst", "50"]
    played = ["--seed", str(seed), "--rate", str(rate), "--timeout", "30", "--json"]
    done = await simulate(receiver.service_url, *pages, *options, *played)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == report["good"]
    return report


@pytest.fixture
def standalone(launcher: Launcher, tmp_path: Path) -> Process:
    """Give a standalone promgithub that is starting."""
    return launcher.start("standalone", "--data-dir", str(tmp_path / "data"), WEBHOOK_SECRET=SECRET)


async def leader(github: GitHub, *processors: Process) -> Process:
    """Wait until one of the processors exposes figures; return it."""

    async def exposing() -> Process | None:
        pages: list[Figures] = [await github.figures(processor) for processor in processors]
        leads = [figures.total(page, "promgithub_exporter_leader") for page in pages]
        return processors[leads.index(1)] if 1 in leads else None

    return await until(exposing, 15)


@pytest.mark.drill
async def test_a_scaled_out_pipeline_shows_the_truth_also_when_its_store_is_not_empty(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, one, other = start_receiver(), start_processor(), start_processor()
    await asyncio.gather(receiver.ready(), one.ready(), other.ready())
    await leader(github, one, other)
    for seed in (1, 1, 2):
        report = await simulated(receiver, one, other, seed=seed)
        assert report["good"], report["differences"]
        assert (report["deliveries"], report["duplicates"], report["answers"]) == (600, 120, {"202": 720})
        assert report["figures_compared"] > 500


async def test_a_figure_that_is_not_true_is_found_and_named(standalone: Process, github: GitHub) -> None:
    await standalone.ready()

    async def sabotage() -> None:
        await github.drained(standalone, processed=1)  # so that the simulator has looked at what was there before
        repo = builders.repository("acme/gears")
        assert await github.send(standalone, builders.delivery(builders.push(1, repo=repo))) == 202

    report, _ = await asyncio.gather(simulated(standalone, standalone, rate=100), sabotage())
    assert not report["good"]
    wrong = {(one["name"], one["labels"]["repository"]): one["got"] - one["expected"] for one in report["differences"]}
    assert wrong == {
        ("promgithub_push_total", "acme/gears"): 1,
        ("promgithub_commit_pushed_total", "acme/gears"): 1,
    }


async def test_a_row_taken_from_the_store_is_missed(
    start_receiver: Start, start_processor: Start, github: GitHub, database_url: str
) -> None:
    receiver, one = start_receiver(), start_processor()
    await asyncio.gather(receiver.ready(), one.ready())
    await leader(github, one)

    async def sabotage() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            async with asyncio.timeout(30):
                while await connection.fetchval(TAKE_A_SERIES) is None:  # noqa: ASYNC110 - it comes from elsewhere
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()

    report, _ = await asyncio.gather(simulated(receiver, one), sabotage())
    wrong = {difference["name"] for difference in report["differences"]}
    assert wrong
    assert wrong <= {"promgithub_push_total", "promgithub_commit_pushed_total"}


async def test_a_leader_killed_meanwhile_changes_no_figure(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, one, other = start_receiver(), start_processor(), start_processor()
    await asyncio.gather(receiver.ready(), one.ready(), other.ready())
    killed = await leader(github, one, other)
    playing = asyncio.create_task(simulated(receiver, one, other))
    await until(lambda: has_counted(github, one, other), 30)
    await killed.kill()
    await asyncio.sleep(1)
    killed.start()
    report = await playing
    assert report["good"], report["differences"]


async def has_counted(github: GitHub, *processors: Process) -> bool | None:
    return figures.total(await github.figures(*processors), "promgithub_event_processed_total") > 0 or None


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def receiver_that(answer: Answer, page: Callable[[], str] = str) -> AsyncIterator[str]:
    """Yield the URL of a receiver that answers deliveries so, and pings as they must be; `page` is its `/metrics`."""

    async def receive(request: web.Request) -> web.StreamResponse:
        await request.read()
        if request.headers["X-GitHub-Event"] == "ping":
            return web.json_response({"status": "pong"})
        return await answer(request)

    async def show(_request: web.Request) -> web.Response:
        return web.Response(text=page())

    application = web.Application()
    application.router.add_get("/metrics", show)
    application.router.add_post("/webhook", receive)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


SEED, DELIVERIES = 1, 300


class Played:
    """A page that shows the truth at once as soon as a delivery arrives, and later the settled truth."""

    def __init__(self, *, settles_after: float, unsettled: float = 3) -> None:
        """`settles_after` seconds; until then so many contributions are `unsettled`."""
        self._truth = Historian(SEED).history(DELIVERIES).truth
        self._settles_after, self._unsettled = settles_after, unsettled
        self._began = 0.0

    async def accept(self, _request: web.Request) -> web.Response:
        """Accept a delivery."""
        self._began = self._began or time.monotonic()
        return web.Response(status=202)

    def page(self) -> str:
        """Return what `/metrics` says now."""
        settled = time.monotonic() >= self._began + self._settles_after
        known = (self._truth.settled if settled else self._truth.at_once) if self._began else {}
        unsettled = 0 if settled or not self._began else self._unsettled
        lines = ["promgithub_exporter_leader 1", f'promgithub_unsettled{{kind="phantom_job"}} {unsettled}']
        for (name, labels), value in known.items():
            shown = ",".join(f'{label}="{text}"' for label, text in labels)
            lines.append(f"{name}{{{shown}}} {value}")
        return "\n".join(lines) + "\n"


async def judged(played: Played, *options: str) -> dict[str, Any]:
    async with receiver_that(played.accept, played.page) as url:
        playing = ("--deliveries", str(DELIVERIES), "--seed", str(SEED), "--rate", "1000")
        done = await simulate(url, "--metrics", url, *playing, *options, "--json")
    report: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == report["good"]
    return report


async def test_while_something_is_unsettled_the_figures_may_lack_it() -> None:
    report = await judged(Played(settles_after=60))
    assert (report["good"], report["unsettled"]) == (True, 3)


async def test_missing_increments_are_found_when_nothing_is_unsettled() -> None:
    report = await judged(Played(settles_after=60, unsettled=0), "--timeout", "3")
    assert not report["good"]
    assert {one["name"] for one in report["differences"]} == {
        "promgithub_anomaly_total",
        *(f"promgithub_job_queue_seconds_{part}" for part in ("bucket", "count", "sum")),
    }


async def test_who_demands_settled_figures_waits_for_them_until_the_time_is_over() -> None:
    report = await judged(Played(settles_after=14), "--settled", "--timeout", "30")
    assert (report["good"], report["unsettled"]) == (True, 0), "waits longer than for figures that stand still"
    late = await judged(Played(settles_after=60), "--settled", "--timeout", "3")
    assert not late["good"]
    assert {"name": "promgithub_unsettled", "labels": {}, "expected": 0, "got": 3} in late["differences"]


async def test_a_slow_receiver_shows_as_latency_and_not_as_a_lower_rate() -> None:
    arrived: list[float] = []

    async def slowly(_request: web.Request) -> web.Response:
        arrived.append(time.monotonic())
        await asyncio.sleep(1)
        return web.Response(status=202)

    async with receiver_that(slowly) as url:
        done = await simulate(url, "--deliveries", "100", "--duplicates", "0", "--rate", "100", "--json")
    report = json.loads(done.stdout)
    assert (report["answers"], report["good"], report["figures_compared"]) == ({"202": 100}, True, None)
    assert report["ack_p50_seconds"] > 1
    assert 0.9 < arrived[-1] - arrived[0] < 2.5, "sent one after the other they would take 100 s"


async def test_redelivery_waits_as_long_as_it_is_asked_to() -> None:
    first: dict[str, float] = {}
    waited: dict[str, float] = {}

    async def at_the_second_time(request: web.Request) -> web.Response:
        delivery, now = request.headers["X-GitHub-Delivery"], time.monotonic()
        if delivery not in first:
            first[delivery] = now
            return web.Response(status=503, headers={"Retry-After": "3"})
        waited[delivery] = now - first[delivery]
        return web.Response(status=202)

    async with receiver_that(at_the_second_time) as url:
        done = await simulate(url, "--deliveries", "20", "--duplicates", "0", "--rate", "1000", "--json")
    report = json.loads(done.stdout)
    assert (report["answers"], report["redelivered"], report["good"]) == ({"202": 20, "503": 20}, 20, True)
    assert min(waited.values()) >= 3


async def test_a_redirection_is_not_followed_and_accepts_nothing() -> None:
    async def elsewhere(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/accepted")

    async with receiver_that(elsewhere) as url:
        done = await simulate(url, "--deliveries", "5", "--duplicates", "0", "--timeout", "1", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["never_accepted"], [*report["answers"]]) == (1, 5, ["302"])


async def test_what_is_never_accepted_is_a_failure_within_the_time_given() -> None:
    seen: Counter[str] = Counter()

    async def never(request: web.Request) -> web.Response:
        seen[request.headers["X-GitHub-Delivery"]] += 1
        return web.Response(status=503, headers={"Retry-After": "3600"})

    async with receiver_that(never) as url:
        began = time.monotonic()
        options = ("--deliveries", "10", "--rate", "1000", "--timeout", "4")
        done = await simulate(url, *options, "--json")
        assert time.monotonic() - began < 15
        report = json.loads(done.stdout)
        assert (done.returncode, report["good"], report["never_accepted"] >= 10) == (1, False, True)
        assert min(seen.values()) > 2
        assert "10 deliveries were never accepted" in (await simulate(url, *options, "--duplicates", "0")).stdout


async def test_a_simulation_stops_when_told_to() -> None:
    async def accept(_request: web.Request) -> web.Response:
        return web.Response(status=202)

    async with receiver_that(accept) as url:
        process = await asyncio.create_subprocess_exec(
            *(PROMGITHUB, "simulate", url, "--rate", "1"),
            env={"PROMGITHUB_WEBHOOK_SECRET": SECRET},
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        async with asyncio.timeout(20):
            await process.stderr.readline()  # the first line of progress
            process.send_signal(signal.SIGINT)
            rest = (await process.stderr.read()).decode()
            assert await process.wait() == 1
    assert rest.splitlines()[-1] == "promgithub: stopped before the end; nothing was verified"


async def test_wrong_usage_exits_with_2() -> None:
    for arguments in (
        ("localhost:8080",),
        ("http://localhost:99999",),
        ("http://localhost:8080", "--rate", "nan"),
        ("http://localhost:8080", "--deliveries", "0"),
        ("http://localhost:8080", "--metrics", "localhost"),
        ("http://localhost:8080", "--settled"),
        ("http://localhost:8080", "--secret-file", "/does/not/exist"),
        (),
    ):
        done = await simulate(*arguments, secret="" if "--secret-file" in arguments else SECRET)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), arguments
    assert (await simulate("http://localhost:8080", secret="")).returncode == 2


async def test_what_is_refused_is_redelivered_until_it_is_accepted(launcher: Launcher, tmp_path: Path) -> None:
    arguments = ("standalone", "--data-dir", str(tmp_path / "data"))
    shedding = launcher.start(*arguments, WEBHOOK_SECRET=SECRET, MAX_IN_FLIGHT="2")
    await shedding.ready()
    pages = ("--metrics", shedding.admin_url)
    done = await simulate(shedding.service_url, *pages, "--deliveries", "300", "--burst", "300", "--json")
    report = json.loads(done.stdout)
    assert report["answers"].get("503", 0) > 0
    assert (report["never_accepted"], report["good"]) == (0, True)


async def test_a_person_sees_a_table_and_a_verdict(standalone: Process) -> None:
    await standalone.ready()
    done = await simulate(standalone.service_url, "--metrics", standalone.admin_url, "--deliveries", "100")
    assert done.returncode == 0
    assert "never accepted" in done.stdout
    assert "figures equal the truth." in done.stdout
    assert "of 105" in done.stderr
    unproven = await simulate(standalone.service_url, "--deliveries", "20")
    assert (unproven.returncode, "Nothing was verified" in unproven.stdout) == (0, True)


@pytest_asyncio.fixture
async def other() -> AsyncIterator[str]:
    """Give the URL of a server that accepts any POST and is not promgithub."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="thank you")

    application = web.Application()
    application.add_routes([web.post("/{path:.*}", answer)])
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def test_what_is_wrong_is_said_in_one_line(standalone: Process, other: str) -> None:
    await standalone.ready()
    nobody = f"http://127.0.0.1:{free_port()}"
    for arguments, secret, says in (
        ((nobody,), SECRET, "cannot be reached"),
        ((standalone.service_url,), "wrong", "does not accept the secret"),
        ((f"{standalone.service_url}/elsewhere",), SECRET, "no webhook there"),
        ((f"{other}/webhook",), SECRET, "the answer to a ping is not promgithub's (200)"),
        ((standalone.service_url, "--metrics", nobody), SECRET, "cannot be read"),
        ((standalone.service_url, "--metrics", f"{standalone.admin_url}/livez"), SECRET, "no metrics of promgithub"),
        ((standalone.service_url, "--metrics", f"{standalone.service_url}/webhook"), SECRET, "cannot be read"),
    ):
        done = await simulate(*arguments, secret=secret)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert says in line
