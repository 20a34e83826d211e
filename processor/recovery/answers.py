"""What GitHub's answers about runs and jobs tell, as deliveries that a webhook might have brought. Pure.

The objects of the REST API have the names and meanings of those in the webhooks
(https://docs.github.com/en/rest/actions/workflow-runs, https://docs.github.com/en/rest/actions/workflow-jobs), but
stand alone: repository and workflow are put beside them here, as known from what the webhooks said before.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

import msgspec

from processor.events import JobFact, RunFact, interpret
from processor.lifecycle import Job, Rank, Run, Standing, join_job, join_run
from processor.series import BranchPolicy
from shared.delivery import RECONCILED, Delivery

NAMESPACE = UUID("5f0e4f86-6c3d-5a57-9f0b-1f6a2c7d9e10")
"""What the IDs of these deliveries are made from; version 5 says nothing of time, so that GitHub's own win a tie."""

Object = Mapping[str, Any]


def run_news(known: Run, answer: Object, repository: Object, branches: BranchPolicy, now: int) -> Sequence[Delivery]:
    """Return the delivery that brings what is `known` of a run up to GitHub's answer, or none if it is so already.

    `repository` is GitHub's account of the repository; `now` is in Unix ms. Raises `PoisonError` if the answer makes
    no sense.
    """
    payload = {
        "action": answer.get("status"),
        "workflow_run": answer,
        "workflow": {"name": known.naming.workflow_name},
        "repository": _repository(repository, known),
    }
    delivery = _delivery("workflow_run", payload, answer, answer.get("updated_at"), now)
    fact = interpret(delivery, branches)
    if not isinstance(fact, RunFact) or fact.attempt != known.attempt:
        return ()
    return (delivery,) if _moves(known.standing, join_run(known, fact.told).standing) else ()


def job_news(known: Job, answer: Object, repository: Object, branches: BranchPolicy, now: int) -> Sequence[Delivery]:
    """Return the deliveries that bring what is `known` of a job up to GitHub's answer, or none if it is so already.

    A job that has run was in progress before, which no webhook may have said. Otherwise as `run_news`.
    """
    job = {"workflow_name": known.naming.workflow_name, **answer}
    told = {
        "action": answer.get("status"),
        "workflow_job": job,
        "repository": _repository(repository, known),
    }
    stamp = [answer.get(name) for name in ("created_at", "started_at", "completed_at")]
    delivery = _delivery("workflow_job", told, answer, stamp, now)
    fact = interpret(delivery, branches)
    if not isinstance(fact, JobFact):
        return ()
    standing, standing_known = fact.told.standing, known.standing
    if standing.rank == standing_known.rank == Rank.PENDING and _moves(standing_known, standing):
        # A job has no `updated_at`. Before it runs, that of its deployment says which wait came last: this one, then.
        told["deployment"] = {"updated_at": max(now, standing_known.at + 1) / 1000}
        return (_delivery("workflow_job", told, answer, [*stamp, standing_known.at], now),)
    if not _moves(standing_known, join_job(known, fact.told).standing):
        return ()
    if standing.rank == Rank.DONE and fact.told.start is not None:
        before = {**job, "status": "in_progress", "conclusion": None, "completed_at": None}
        ran = {**told, "action": "in_progress", "workflow_job": before}
        return _delivery("workflow_job", ran, before, stamp[:2], now), delivery
    return (delivery,)


def listed_jobs(page: Any) -> Mapping[int, Object]:
    """Return the jobs on a page of GitHub's list by id; what is no job is not among them."""
    jobs = page.get("jobs") if isinstance(page, dict) else None
    listed = [one for one in jobs if isinstance(one, dict)] if isinstance(jobs, list) else []
    return {job["id"]: job for job in listed if isinstance(job.get("id"), int)}


def _moves(before: Standing, after: Standing) -> bool:
    """Return whether a state is another one, and not only newer: what still runs is left alone."""
    return (before.rank, before.status, before.conclusion) != (after.rank, after.status, after.conclusion)


def _repository(repository: Object, known: Run | Job) -> Object:
    """Return the repository as a payload has it, under the name that its metrics have: it may have been renamed."""
    names = {name: repository.get(name) for name in ("id", "default_branch")}
    return names | {"full_name": known.naming.repository}


def _delivery(event: str, payload: Object, answer: Object, stamp: object, now: int) -> Delivery:
    """Return a delivery whose ID follows from what it says, so that it counts once however often GitHub says it."""
    says = [event, *(answer.get(name) for name in ("id", "run_attempt", "status", "conclusion")), stamp]
    name = msgspec.json.encode(says).decode()
    return Delivery(str(uuid5(NAMESPACE, name)), event, msgspec.json.encode(payload), now, source=RECONCILED)
