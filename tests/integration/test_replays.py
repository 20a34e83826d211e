"""Replay attacks: someone who has a signed body, but not the secret, sends it with another ID or event."""

from collections.abc import Sequence

from tests.support import builders, figures
from tests.support.builders import Payload
from tests.support.worker import Worker

HISTORY: Sequence[Payload] = (
    builders.run(1, status="queued"),
    builders.job(7, status="queued"),
    builders.job(7, status="in_progress", started=10, runner=5),
    builders.run(1, status="in_progress", updated=10),
    builders.job(7, status="completed", started=10, completed=70, runner=5),
    builders.run(1, status="completed", conclusion="success", updated=80),
)


async def test_runs_and_jobs_sent_again_under_new_ids_change_no_figure(counting: Worker) -> None:
    await counting.count(builders.delivery(body, builders.guid(i)) for i, body in enumerate(HISTORY))
    before = await counting.figures()
    await counting.count(builders.delivery(body, builders.guid(100 + i)) for i, body in enumerate(reversed(HISTORY)))
    assert await counting.figures() == before
    assert figures.total(before, "promgithub_job_status_total", job_status="completed") == 1


async def test_a_push_or_pull_request_under_a_new_id_counts_again(counting: Worker) -> None:
    bodies = [builders.push(2), builders.push(2), builders.pull_request(), builders.pull_request()]
    await counting.count(builders.delivery(body, builders.guid(i)) for i, body in enumerate(bodies))
    counted = await counting.figures()
    assert figures.total(counted, "promgithub_push_total") == 2
    assert figures.total(counted, "promgithub_commit_pushed_total") == 4
    assert figures.total(counted, "promgithub_pull_request_total") == 2


async def test_a_body_under_an_event_that_it_is_not_becomes_a_dead_letter(counting: Worker) -> None:
    bodies = {
        "push": builders.push(),
        "pull_request": builders.pull_request(),
        "workflow_run": builders.run(1),
        "workflow_job": builders.job(7),
    }
    deliveries = [
        builders.delivery(body, builders.guid(i, serial=n), event=event)
        for i, event in enumerate(bodies)
        for n, (own, body) in enumerate(bodies.items())
        if event != own
    ]
    batch = await counting.count(deliveries)
    assert [reason for _, reason in batch.dead] == ["undecodable"] * 12
    assert await counting.figures() == {}
