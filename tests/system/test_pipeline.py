"""Receiver, RabbitMQ, processors, PostgreSQL, `/metrics`: the whole way."""

import asyncio
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from promgithub.simulation.histories import Historian
from shared.delivery import Delivery
from tests.support import builders, figures
from tests.support.figures import Figures
from tests.support.github import GitHub, headers, until
from tests.support.processes import Process
from tests.support.servers.rabbitmq import take_all

TAKEOVER_SECONDS = 15

DUPLICATES = "promgithub_duplicate_deliveries_dropped_total"

Start = Callable[..., Process]


def shuffled_with_duplicates(deliveries: list[Delivery], seed: int) -> list[Delivery]:
    chance = random.Random(seed)  # noqa: S311 - a test that fails must fail again
    order = deliveries + chance.sample(deliveries, len(deliveries) // 3)
    chance.shuffle(order)
    return order


def examples(payload_dir: Path) -> list[Delivery]:
    return [
        Delivery(builders.guid(i, serial=i), path.parent.name, path.read_bytes(), 0)
        for i, path in enumerate(sorted(payload_dir.glob("*/*.json")))
    ]


async def has_leader(github: GitHub, *processors: Process) -> Figures | None:
    counted = await github.figures(*processors)
    return counted if figures.total(counted, "promgithub_exporter_leader") == 1 else None


async def test_a_shuffled_history_with_duplicates_over_two_processors_gives_the_true_figures(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, one, other = start_receiver(), start_processor(), start_processor()
    await asyncio.gather(receiver.ready(), one.ready(), other.ready())
    truth = Historian(1).history(840)
    order = shuffled_with_duplicates(truth.deliveries, seed=2)

    assert await github.send_all(receiver, order) == {202: len(order)}
    counted = await github.drained(one, other, processed=len(order))
    await until(lambda: has_leader(github, one, other), TAKEOVER_SECONDS)

    assert figures.of_ci(await github.figures(one, other)) == truth.truth.at_once
    duplicates = len(order) - len(truth.deliveries)
    assert figures.total(counted, DUPLICATES) == duplicates
    for processor in (one, other):
        assert figures.total(await github.figures(processor), "promgithub_event_processed_total") > 0


async def test_another_processor_takes_over_from_a_killed_leader_without_reset_or_doubling(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, one, other = start_receiver(), start_processor(), start_processor()
    await asyncio.gather(receiver.ready(), one.ready(), other.ready())
    truth = Historian(3).history(140)
    await github.send_all(receiver, truth.deliveries)
    await github.drained(one, other, processed=len(truth.deliveries))
    await until(lambda: has_leader(github, one, other), TAKEOVER_SECONDS)
    leads = await has_leader(github, one)
    leader, heir = (one, other) if leads else (other, one)
    assert figures.of_ci(await github.figures(one, other)) == truth.truth.at_once

    await leader.kill()
    killed_at = time.monotonic()
    while figures.total(page := await github.figures(heir), "promgithub_exporter_leader") == 0:
        assert figures.of_ci(page) == {}, "exposes without the lease"
        assert time.monotonic() - killed_at < TAKEOVER_SECONDS
        await asyncio.sleep(0.2)
    assert figures.of_ci(await github.figures(heir)) == truth.truth.at_once

    more = Historian(4).history(70)
    assert await github.send_all(receiver, more.deliveries) == {202: len(more.deliveries)}

    async def settled() -> bool | None:
        counted = figures.of_ci(await github.figures(heir))
        return counted == figures.plus(truth.truth.at_once, more.truth.at_once) or None

    await until(settled, 60)


async def test_a_leader_that_is_asked_to_stop_hands_over_at_once(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, leader = start_receiver(), start_processor()
    await asyncio.gather(receiver.ready(), leader.ready())
    await until(lambda: has_leader(github, leader), TAKEOVER_SECONDS)
    heir = start_processor()
    await heir.ready()
    assert await leader.terminate() == 0
    await until(lambda: has_leader(github, heir), 5)


async def test_a_rolling_restart_under_load_leaves_nothing_to_be_redelivered(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    busy = {"BATCH_SIZE": "5", "EVENT_WORKERS": "4"}  # so that there is always one between its commit and its ack
    receiver, *processors = start_receiver(), start_processor(**busy), start_processor(**busy)
    await asyncio.gather(receiver.ready(), *(processor.ready() for processor in processors))
    truth = Historian(5).history(1680)
    sending = asyncio.create_task(github.send_over(receiver, truth.deliveries, 12))
    duplicates = 0.0
    for processor in [*processors, *processors]:
        await asyncio.sleep(1)
        # What came back from the one that stopped before would have been dropped by now, and is forgotten with this.
        duplicates += await dropped_as_duplicates(github, processor)
        assert await processor.terminate() == 0
        processor.start()
        await processor.ready()
    assert await sending == {202: len(truth.deliveries)}
    counted = await github.settled(truth, *processors)
    assert duplicates + figures.total(counted, DUPLICATES) == 0
    assert figures.value(counted, "promgithub_dead_letters") == 0


async def dropped_as_duplicates(github: GitHub, processor: Process) -> float:
    return figures.total(await github.figures(processor), DUPLICATES)


async def test_a_receiver_that_is_asked_to_stop_answers_what_it_holds(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, processor = start_receiver(), start_processor()
    await asyncio.gather(receiver.ready(), processor.ready())
    reader, writer = await asyncio.open_connection(*receiver.service_url.removeprefix("http://").split(":"))
    push = builders.delivery(builders.push())
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers(push).items())
    head = f"POST /webhook HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(push.body)}\r\n\r\n"
    writer.write(head.encode() + push.body[:-1])
    await writer.drain()
    await asyncio.sleep(0.3)
    stopping = asyncio.create_task(receiver.terminate())
    await asyncio.sleep(0.3)
    writer.write(push.body[-1:])
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 202")
    writer.close()
    assert await stopping == 0
    counted = await github.drained(processor, processed=1)
    assert figures.total(counted, "promgithub_push_total") == 1


async def test_what_cannot_be_processed_becomes_a_dead_letter_with_its_reason(
    start_receiver: Start, start_processor: Start, github: GitHub, amqp_url: str, queue_name: str
) -> None:
    receiver, processor = start_receiver(), start_processor()
    await asyncio.gather(receiver.ready(), processor.ready())
    broken = builders.delivery({"workflow_job": {"id": "one"}, "repository": builders.REPOSITORY}, event="workflow_job")
    good = [builders.delivery(builders.push()) for _ in range(20)]
    await github.send_all(receiver, [*good[:10], broken, *good[10:]])
    await github.drained(processor, processed=len(good))

    async def dead() -> Figures | None:
        counted = await github.figures(processor)
        return counted if figures.total(counted, "promgithub_dead_letters") == 1 else None

    counted = await until(dead, 10)
    assert figures.total(counted, "promgithub_push_total") == 20
    assert (
        figures.value(counted, "promgithub_event_dropped_total", event_type="workflow_job", reason="undecodable") == 1
    )
    (message,) = await take_all(amqp_url, f"{queue_name}.dead")
    assert message.body == broken.body
    assert message.message_id == broken.id
    assert message.headers["x-promgithub-reason"] == "undecodable"
    assert "$.workflow_job.id" in str(message.headers["x-promgithub-detail"])


async def test_promtool_finds_nothing_on_either_metrics_page(
    start_receiver: Start, start_processor: Start, github: GitHub, promtool: str
) -> None:
    receiver, processor = start_receiver(), start_processor()
    await asyncio.gather(receiver.ready(), processor.ready())
    odd = builders.run(workflow='say "hi" \\ \n 🚀')
    truth = Historian(6).history(70)
    deliveries = [*truth.deliveries, builders.delivery(odd), builders.delivery({"zen": "x"}, event="ping")]
    await github.send_all(receiver, deliveries)
    await github.drained(processor, processed=len(deliveries) - 1)
    await until(lambda: has_leader(github, processor), TAKEOVER_SECONDS)
    for process in (receiver, processor):
        page = await github.scrape(process)
        checked = await asyncio.to_thread(
            subprocess.run, [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
        )
        # GitHub bills in minutes, so one counter has this unit; promtool wants seconds.
        found = [line for line in (checked.stdout + checked.stderr).splitlines() if "billable_minutes" not in line]
        assert found == []


async def test_openmetrics_says_since_when_each_series_counts(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, processor = start_receiver(), start_processor()
    await asyncio.gather(receiver.ready(), processor.ready())
    await github.send_all(receiver, [builders.delivery(builders.push())])
    await github.drained(processor, processed=1)
    page = await github.scrape(processor, accept="application/openmetrics-text; version=1.0.0")
    assert page.endswith("# EOF\n")
    assert 'promgithub_push_created{repository="acme/gears"} ' in page
    assert "promgithub_push_created" not in await github.scrape(processor)


async def test_every_example_payload_is_accepted_and_counted_and_none_is_a_dead_letter(
    start_receiver: Start, start_processor: Start, github: GitHub, payload_dir: Path
) -> None:
    receiver, processor = start_receiver(), start_processor()
    await asyncio.gather(receiver.ready(), processor.ready())
    deliveries = examples(payload_dir)
    pings = sum(d.event == "ping" for d in deliveries)
    assert len(deliveries) > 100
    assert await github.send_all(receiver, deliveries) == {202: len(deliveries) - pings, 200: pings}
    counted = await github.drained(processor, processed=len(deliveries) - pings)
    await until(lambda: has_leader(github, processor), TAKEOVER_SECONDS)
    counted = await github.figures(processor)

    assert figures.total(counted, "promgithub_dead_letters") == 0
    assert figures.total(counted, "promgithub_event_dropped_total") == 0
    ci = figures.of_ci(counted)
    assert all(dict(labels).get("repository") != "" for _, labels in ci)
    run = {"repository": "octo-org/octo-repo", "branch": "master", "workflow_name": "test"}
    assert figures.total(ci, "promgithub_workflow_status_total", workflow_status="queued", **run) == 1
    assert figures.total(ci, "promgithub_workflow_status_total", workflow_status="completed", **run) == 1
    assert figures.value(ci, "promgithub_workflow_duration_seconds_count", conclusion="success", **run) == 1
    job = {"repository": "Codertocat/Hello-World", "branch": "main", "workflow_name": "CodeQL"}
    for status in ("queued", "in_progress", "completed"):
        assert figures.total(ci, "promgithub_job_status_total", job_status=status, **job) == 1
    assert figures.value(ci, "promgithub_push_total", repository="Codertocat/Hello-World") == 3
    assert figures.total(ci, "promgithub_pull_request_total", pull_request_status="opened") == 2
