"""The status page in a real browser: its figures equal `/metrics`, it follows changes, and names are only text."""

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from promgithub.simulation.histories import Historian
from tests.support import builders, figures
from tests.support.browser import chromium, open_tab
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import Launcher, Process
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.prometheus import PrometheusServer

Start = Callable[..., Process]

SOON = 15_000
"""How long the page has to show something, in milliseconds."""

CACHED = 10.5
"""After this time the page does not show what it showed before, in seconds."""

UPDATE = 10
"""How often the page updates itself, in seconds."""

NARROW = {"width": 360, "height": 740}

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "{{ 7 * 7 }} {% raw %}",
    "\N{RIGHT-TO-LEFT OVERRIDE}txt.exe \N{ARABIC LETTER ALEF}\N{ARABIC LETTER BEH}",
    "\N{PARTY POPPER}\N{ZERO WIDTH JOINER}\N{ROCKET}",
    "n" * 10_240,
)


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


@pytest.fixture
def start(launcher: Launcher, tmp_path: Path) -> Start:
    """Give a function that starts standalone on the test's data directory."""

    def start_standalone(**settings: str) -> Process:
        given = {"WEBHOOK_SECRET": SECRET, "NEW_SERIES_SECONDS": "0"} | settings
        return launcher.start("standalone", "--data-dir", str(tmp_path / "data"), **given)

    return start_standalone


async def answer(process: Process, path: str) -> tuple[int, Any]:
    """Return the status and the JSON of an answer on the admin port."""
    async with aiohttp.ClientSession() as client, client.get(f"{process.admin_url}{path}") as answered:
        return answered.status, await answered.json(content_type=None)


async def cells(page: Page, section: str, key: str) -> dict[str, dict[str, str]]:
    """Return the rows of the first table below a heading: the cells by heading, by the cell of the column `key`."""
    table = page.locator(f"section[aria-labelledby={section}] table").first
    rows: dict[str, dict[str, str]] = {}
    for row in await table.locator("tbody tr").all():
        found = {
            str(await cell.get_attribute("data-name")): (await cell.inner_text()).strip()
            for cell in await row.locator("td").all()
        }
        rows[found[key]] = found
    return rows


def by_label(found: figures.Figures, name: str, label: str, **labels: str) -> dict[str, float]:
    """Return the sums of a metric by one label, without zeros."""
    sums: dict[str, float] = {}
    for (metric, named), value in found.items():
        one = dict(named)
        if metric == name and labels.items() <= one.items() and value:
            sums[one[label]] = sums.get(one[label], 0) + value
    return sums


def nearly(expected: Mapping[str, float]) -> Any:
    return pytest.approx(dict(expected), abs=1e-6)


async def test_the_figures_of_page_api_and_metrics_are_equal(start: Start, github: GitHub, browser: Browser) -> None:
    standalone = start()
    await standalone.ready()
    truth = Historian(3).history(900)
    await github.send_all(standalone, truth.deliveries + truth.deliveries[::4])
    counted = await github.settled(truth, standalone)

    _, opened = await answer(standalone, "/api/v1/open?limit=500")
    for phase in ("queued", "waiting", "in_progress"):
        shown = {one["runner_class"]: one[phase] for one in opened["by_class"] if one[phase]}
        assert shown == by_label(counted, f"promgithub_job_{phase}", "runner_class")
        assert opened["run_count"][phase] == figures.total(counted, f"promgithub_workflow_{phase}")
    assert (
        len(opened["jobs"])
        == opened["jobs_total"]
        == sum(figures.total(counted, f"promgithub_job_{phase}") for phase in ("queued", "waiting", "in_progress"))
    )
    assert len(opened["runs"]) == opened["runs_total"]

    _, day = await answer(standalone, "/api/v1/insights?window=24h")
    classes = {one["runner_class"]: one for one in day["by_class"]}
    for field, metric in (
        ("jobs_started", "promgithub_job_queue_seconds_count"),
        ("busy_seconds", "promgithub_job_busy_seconds_total"),
        ("billable_minutes", "promgithub_job_billable_minutes_total"),
        ("cost_usd", "promgithub_job_cost_usd_total"),
    ):
        shown = {name: one[field] for name, one in classes.items() if one[field]}
        assert shown == nearly(by_label(counted, metric, "runner_class"))
    workflows = day["by_workflow"]
    ended = {"workflow_status": "completed"}
    for field, conclusions in (
        ("runs", ()),
        ("succeeded", ("success",)),
        ("failed", ("failure", "timed_out", "startup_failure")),
        ("cancelled", ("cancelled",)),
    ):
        chosen = [ended | {"conclusion": conclusion} for conclusion in conclusions] or [ended]
        expected = sum(figures.total(counted, "promgithub_workflow_status_total", **labels) for labels in chosen)
        assert sum(one[field] for one in workflows) == expected
    assert sum(one["flaky_jobs"] for one in workflows) == figures.total(counted, "promgithub_job_flaky_total")
    assert sum(step["runs"] for step in day["steps"]) == sum(one["runs"] for one in workflows)
    _, week = await answer(standalone, "/api/v1/insights?window=7d")
    assert week["by_class"] == day["by_class"]

    tab = await open_tab(browser, f"{standalone.admin_url}/?limit=500")
    now = await cells(tab.page, "now", "Runner class")
    assert {name: int(row["Queued"]) for name, row in now.items() if row["Queued"] != "0"} == by_label(
        counted, "promgithub_job_queued", "runner_class"
    )
    last = await cells(tab.page, "insights", "Runner class")
    assert {name: int(row["Jobs started"].replace(",", "")) for name, row in last.items()} == {
        name: one["jobs_started"] for name, one in classes.items()
    }
    links = await tab.page.locator("section[aria-labelledby=now] td[data-name=Job] a").all()
    assert [await link.get_attribute("href") for link in links] == [one["url"] for one in opened["jobs"]]
    assert (tab.errors, tab.foreign) == ([], [])


async def test_percentiles_are_those_that_prometheus_computes_from_the_same_buckets(
    start: Start, github: GitHub
) -> None:
    standalone = start(QUEUE_BUCKETS="1,10,60,600", DURATION_BUCKETS="30,300,3600")
    await standalone.ready()
    truth = Historian(4).history(700)
    await github.send_all(standalone, truth.deliveries)
    await github.drained(standalone, processed=len(truth.deliveries))
    _, day = await answer(standalone, "/api/v1/insights?window=24h")
    target = standalone.admin_url.removeprefix("http://")
    config = (
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: promgithub, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    async with PrometheusServer(config) as prometheus:

        async def quantiles(q: float, bucket: str, by: str) -> dict[str, float] | None:
            query = f"histogram_quantile({q}, sum by (le, {by}) ({bucket}))"
            found = (await prometheus.api("query", query=query))["result"]
            return {one["metric"][by]: float(one["value"][1]) for one in found} or None

        await until(lambda: quantiles(0.5, "promgithub_job_queue_seconds_bucket", "runner_class"), 30)
        for q, field in ((0.5, "queue_p50_seconds"), (0.9, "queue_p90_seconds"), (0.99, "queue_p99_seconds")):
            expected = await quantiles(q, "promgithub_job_queue_seconds_bucket", "runner_class")
            assert shown(day["by_class"], "runner_class", field) == nearly(expected or {})
        for repository in {one["repository"] for one in day["by_workflow"]}:
            workflows = [one for one in day["by_workflow"] if one["repository"] == repository]
            bucket = f'promgithub_workflow_duration_seconds_bucket{{repository="{repository}"}}'
            for q, field in ((0.5, "duration_p50_seconds"), (0.9, "duration_p90_seconds")):
                expected = await quantiles(q, bucket, "workflow_name")
                assert shown(workflows, "workflow", field) == nearly(expected or {})


def shown(rows: Sequence[Mapping[str, Any]], key: str, field: str) -> dict[str, float]:
    """Return a field of rows by another one, without unknown values."""
    return {row[key]: row[field] for row in rows if row[field] is not None}


async def test_the_page_follows_what_happens_until_it_is_paused(start: Start, github: GitHub, browser: Browser) -> None:
    standalone = start()
    await standalone.ready()
    await github.deliver(standalone, builders.delivery(builders.job(1, name="first")))
    await github.drained(standalone, processed=1)
    tab = await open_tab(browser, standalone.admin_url)
    job = tab.page.locator("td[data-name=Job]")
    await expect(job).to_have_text(["first"])

    await github.deliver(standalone, builders.delivery(builders.job(2, name="second", created=5)))
    await github.drained(standalone, processed=2)
    await asyncio.sleep(CACHED)
    await tab.later(UPDATE)
    await expect(job).to_have_text(["first", "second"], timeout=SOON)

    await tab.page.get_by_role("button", name="Pause updates").click()
    await expect(tab.page.locator("#updates")).to_have_text("Updates are paused.")
    completed = builders.job(
        1, name="first", status="completed", conclusion="success", started=1, completed=9, runner=3
    )
    await github.deliver(standalone, builders.delivery(completed))
    await github.drained(standalone, processed=3)
    await asyncio.sleep(CACHED)
    await tab.later(3 * UPDATE)
    await expect(job).to_have_text(["first", "second"])
    await tab.page.get_by_role("button", name="Go on with updates").click()
    await expect(job).to_have_text(["second"], timeout=SOON)
    assert (tab.errors, tab.foreign) == ([], [])


async def test_a_failure_has_its_first_failing_step_and_how_often_it_came_in_a_row(
    start: Start, github: GitHub, browser: Browser
) -> None:
    standalone = start()
    await standalone.ready()
    conclusions = ["success", "failure", "failure", "timed_out"]
    steps = [
        {"name": "Set up job", "status": "completed", "conclusion": "success", "number": 1},
        {"name": "Run make test", "status": "completed", "conclusion": "failure", "number": 2},
        {"name": "Upload", "status": "completed", "conclusion": "skipped", "number": 3},
    ]
    jobs = [
        builders.job(
            10 + i,
            run_id=100 + i,
            status="completed",
            conclusion=conclusion,
            created=100 * i,
            started=100 * i + 5,
            completed=100 * i + 65,
            runner=3,
            name="unit (3.13)",
            steps=steps,
        )
        for i, conclusion in enumerate(conclusions)
    ]
    fixed = builders.job(
        50, run_id=150, status="completed", conclusion="failure", started=0, completed=9, runner=3, name="lint"
    )
    works = builders.job(
        51, run_id=151, status="completed", conclusion="success", started=20, completed=29, runner=3, name="lint"
    )
    deliveries = [builders.delivery(payload) for payload in (*reversed(jobs), works, fixed)]
    for delivery in deliveries:
        await github.deliver(standalone, delivery)
    await github.drained(standalone, processed=len(deliveries))

    _, failures = await answer(standalone, "/api/v1/failures")
    assert [(one["job"], one["in_a_row"], one["job_id"]) for one in failures["failures"]] == [
        ("unit (3.13)", 3, 13),
        ("unit (3.13)", 3, 12),
        ("unit (3.13)", 3, 11),
        ("lint", 0, 50),
    ]
    assert failures["failures"][0]["duration_seconds"] == 60
    tab = await open_tab(browser, standalone.admin_url)
    rows = tab.page.locator("section[aria-labelledby=failed] tbody tr")
    await expect(rows.first).to_contain_text("Run make test")
    await expect(rows.first).to_contain_text("3 times")
    await expect(rows.last).to_contain_text("works again")
    link = rows.first.locator("td[data-name=Job] a")
    await expect(link).to_have_attribute("href", "https://github.com/acme/gears/actions/runs/103/job/13")


async def test_a_view_is_in_its_address(start: Start, github: GitHub, browser: Browser) -> None:
    standalone = start()
    await standalone.ready()
    other = builders.repository("acme/axles")
    deliveries = [
        builders.delivery(payload)
        for payload in (
            builders.job(1, name="one", labels=["self-hosted", "gpu"]),
            builders.job(2, name="two", created=5400),
            builders.job(3, name="three", repo=other, created=7200),
            builders.job(4, name="four", status="in_progress", started=9, runner=5, created=1),
        )
    ]
    await github.send_all(standalone, deliveries)
    await github.drained(standalone, processed=4)
    tab = await open_tab(browser, standalone.admin_url)
    job = tab.page.locator("td[data-name=Job]")
    await expect(job).to_have_text(["one", "two", "three", "four"])

    await tab.page.get_by_label("Phase").select_option("queued")
    await tab.page.get_by_label("Order").select_option("-age")
    await tab.page.get_by_role("button", name="Show", exact=True).click()
    await expect(job).to_have_text(["three", "two", "one"])
    await tab.page.get_by_role("link", name="acme/axles").first.click()
    await expect(job).to_have_text(["three"])
    again = await open_tab(browser, tab.page.url)
    await expect(again.page.locator("td[data-name=Job]")).to_have_text(["three"])
    for query, names in (
        ("class=gpu", ["one"]),
        ("older=23h", ["one", "four"]),
        ("limit=1&offset=1", ["two"]),
        ("repository=acme/gears&sort=workflow", ["one", "two", "four"]),
        ("repository=nobody/nothing", []),
    ):
        shown = await open_tab(browser, f"{standalone.admin_url}/?{query}")
        await expect(shown.page.locator("td[data-name=Job]")).to_have_text(names)
        assert (shown.errors, shown.foreign) == ([], [])


async def test_names_of_other_people_are_only_text(start: Start, github: GitHub, browser: Browser) -> None:
    standalone = start(BRANCHES=".*")
    await standalone.ready()
    payloads = []
    for number, name in enumerate(HOSTILE):
        repository = builders.repository(f"acme/{name[:60]}")
        names: dict[str, Any] = {
            "branch": name,
            "workflow": name,
            "name": name,
            "repo": repository,
            "labels": [name, "x"],
        }
        payloads.append(builders.job(100 + number, **names))
        steps = [{"name": name, "status": "completed", "conclusion": "failure", "number": 1}]
        ended: dict[str, Any] = {
            "status": "completed",
            "conclusion": "failure",
            "started": 1,
            "completed": 5,
            "runner": 7,
        }
        payloads.append(builders.job(200 + number, **names, **ended, steps=steps, runner_name=name))
        payloads.append(builders.run(300 + number, branch=name, workflow=name, repo=repository, event=name))
    await github.send_all(standalone, map(builders.delivery, payloads))
    await github.drained(standalone, processed=len(payloads))
    for options in ({}, {"viewport": NARROW}):
        tab = await open_tab(browser, standalone.admin_url, **options)
        await expect(tab.page.locator("td[data-name=Job]").first).to_be_visible()
        shown = await tab.page.locator("section[aria-labelledby=now] td[data-name=Workflow]").all_inner_texts()
        assert {name[:1024] for name in HOSTILE[:4]} <= {text.strip() for text in shown}
        assert await tab.page.locator("img, main script").count() == 0
        assert await width(tab.page) <= (options.get("viewport") or {"width": 1280})["width"]
        assert (tab.errors, tab.foreign) == ([], [])


async def width(page: Page) -> int:
    """Return how wide the whole document is, in pixels."""
    found: int = await page.evaluate("document.documentElement.scrollWidth")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_read_on_a_phone_in_the_dark_without_javascript_and_by_a_screen_reader(
    start: Start, github: GitHub, browser: Browser, scheme: str
) -> None:
    standalone = start()
    await standalone.ready()
    truth = Historian(5).history(150)
    await github.send_all(standalone, truth.deliveries)
    await github.drained(standalone, processed=len(truth.deliveries))
    for viewport in ({"width": 1280, "height": 900}, NARROW):
        tab = await open_tab(browser, standalone.admin_url, color_scheme=scheme, viewport=viewport)
        assert await tab.violations() == []
        assert await width(tab.page) <= viewport["width"]
        back = await tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", back))) < 64) == (scheme == "dark")
        assert (tab.errors, tab.foreign) == ([], [])
    plain = await open_tab(browser, standalone.admin_url, java_script_enabled=False, color_scheme=scheme)
    await expect(plain.page.locator("section[aria-labelledby=now] td[data-name=Job]").first).to_be_visible()
    await expect(plain.page.get_by_role("button", name="Pause updates")).to_be_hidden()
    await plain.page.get_by_label("Window").select_option("7d")
    await plain.page.get_by_role("button", name="Show", exact=True).click()
    await expect(plain.page.get_by_role("heading", name="Last 7 days")).to_be_visible()


async def test_an_empty_installation_says_what_to_do_and_it_works(start: Start, browser: Browser) -> None:
    standalone = start()
    await standalone.ready()
    tab = await open_tab(browser, standalone.admin_url)
    await expect(tab.page.get_by_role("heading", name="No delivery has been counted yet")).to_be_visible()
    assert await tab.violations() == []
    command = await tab.page.locator("pre").first.inner_text()
    port = standalone.service_url.rpartition(":")[2]
    assert f"http://localhost:{port}/webhook" in command
    environment = {"PATH": os.environ["PATH"], "PROMGITHUB_WEBHOOK_SECRET": SECRET}
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-ec", command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "HTTP/1.1 202" in done.stdout
    await expect(tab.page.get_by_role("heading", name="No delivery has been counted yet")).to_be_hidden(
        timeout=3 * SOON
    )


async def test_while_the_database_is_away_the_page_says_so_and_shows_what_it_knows(
    start_receiver: Start, launcher: Launcher, amqp_url: str, queue_name: str, github: GitHub, browser: Browser
) -> None:
    async with PostgresServer() as postgres:
        receiver = start_receiver()
        given = {"AMQP_URL": amqp_url, "QUEUE_NAME": queue_name, "DATABASE_URL": postgres.url}
        processor = launcher.start("processor", **given)
        await asyncio.gather(receiver.ready(), processor.ready())
        await github.deliver(receiver, builders.delivery(builders.job(1, name="waits")))
        await github.drained(processor, processed=1)
        tab = await open_tab(browser, processor.admin_url)
        await expect(tab.page.locator("td[data-name=Job]")).to_have_text(["waits"])

        await postgres.stop()
        await asyncio.sleep(CACHED)
        await tab.later(UPDATE)
        notice = tab.page.locator(".notice").first
        await expect(notice).to_contain_text("The database cannot be read", timeout=SOON)
        await expect(tab.page.locator("td[data-name=Job]")).to_have_text(["waits"])
        status, said = await answer(processor, "/api/v1/open")
        assert status == 503
        assert "the store cannot be read" in said["error"]
        status, pipeline = await answer(processor, "/api/v1/pipeline")
        assert (status, pipeline["broker_up"], pipeline["version"]) == (200, True, version("promgithub"))


async def test_the_receiver_says_what_it_is_and_what_it_has_received(
    start_receiver: Start, github: GitHub, browser: Browser
) -> None:
    receiver = start_receiver()
    await receiver.ready()
    tab = await open_tab(browser, receiver.admin_url)
    await expect(tab.page.get_by_role("heading", name="promgithub receiver")).to_be_visible()
    await expect(tab.page.locator("main")).to_contain_text("None yet")
    assert await tab.violations() == []
    await github.deliver(receiver, builders.delivery(builders.push()))
    await tab.page.reload()
    await expect(tab.page.locator("tbody tr")).to_contain_text(["push"])
    assert await tab.violations() == []
    assert (tab.errors, tab.foreign) == ([], [])


async def test_the_page_can_be_switched_off_and_refuses_what_it_does_not_know(start: Start) -> None:
    standalone = start(STATUS_PAGE="false")
    await standalone.ready()
    async with aiohttp.ClientSession() as client:
        for path in ("/api/v1/open", "/api/v1/failures", "/api/v1/insights", "/api/v1/pipeline"):
            async with client.get(f"{standalone.admin_url}{path}") as answered:
                assert answered.status == 404
        async with client.get(f"{standalone.admin_url}/") as answered:
            assert "promgithub receiver" in await answered.text()
    await standalone.terminate()
    shown = start()
    await shown.ready()
    for path, said in (
        ("/api/v1/open?limit=501", "takes 1 to 500"),
        ("/api/v1/open?older=soon", "takes a number and a unit"),
        ("/api/v1/insights?window=1y", "takes one of 24h, 7d"),
        ("/api/v1/pipeline?limit=1", "takes none"),
    ):
        status, refused = await answer(shown, path)
        assert status == 400
        assert said in refused["error"]
    async with aiohttp.ClientSession() as client, client.get(f"{shown.admin_url}/?sort=%3Cb%3E") as answered:
        assert answered.status == 400
        assert "<b>" not in await answered.text()
