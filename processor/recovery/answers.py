"""Turns REST API objects of runs and jobs into deliveries like those of a webhook. Pure.

The objects of the REST API have the same fields as those in the webhooks
(https://docs.github.com/en/rest/actions/workflow-runs, https://docs.github.com/en/rest/actions/workflow-jobs), but lack
the enclosing payload. This module adds the repository and the workflow from earlier deliveries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

import msgspec

from processor.counting.events import Policy, interpret
from processor.counting.jobs import JOBS
from processor.counting.known_job import Job
from processor.counting.runs import RUNS, Run, RunKey
from processor.counting.states import Names, Rank, Standing
from processor.counting.subjects import Fact
from shared.delivery import RECONCILED, Delivery

NAMESPACE = UUID("5f0e4f86-6c3d-5a57-9f0b-1f6a2c7d9e10")
"""Namespace of the IDs of these deliveries. They are version 5 UUIDs without a time stamp, so GitHub's own deliveries
win a tie (see `shared.delivery.emitted_at`)."""

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """The context of an answer: the GitHub host, the counting policy, and the time now (Unix ms).

    `host` is the result of `shared.hosts.enterprise_host` for the API.
    """

    host: str | None
    policy: Policy
    now: int

    @property
    def row_host(self) -> str:
        """The host in the keys of this GitHub's runs and jobs."""
        return self.host or self.policy.home_host

    def repository(self, names: Names) -> str:
        """Return the name of a repository on this GitHub: the label value without the host prefix."""
        label = names.repository.value
        # The label may have been created with another value of the setting GITHUB_HOST.
        return label.removeprefix(f"{self.row_host}/") if label.count("/") > 1 else label


def run_news(key: RunKey, known: Run, answer: Object, repository: Object, asked: Asked) -> Sequence[Delivery]:
    """Return the delivery that updates the `known` state of a run to GitHub's answer, or none if nothing has changed.

    `repository` is GitHub's REST API object of the repository. Raises `PoisonError` if the answer is invalid.
    """
    payload = {
        "action": answer.get("status"),
        "workflow_run": answer,
        "workflow": {"name": _workflow_name(known.names)},
        "repository": repository_object(repository, asked.repository(known.names)),
    }
    delivery = delivery_of("workflow_run", payload, answer, answer.get("updated_at"), asked)
    fact = interpret(delivery, asked.policy)
    if not isinstance(fact, Fact) or fact.key != key:
        return ()
    return (delivery,) if _moves(known.standing, RUNS.join(known, fact.told).standing) else ()


def job_news(known: Job, answer: Object, repository: Object, asked: Asked) -> Sequence[Delivery]:
    """Return the deliveries that update the `known` state of a job to GitHub's answer, or none if nothing has changed.

    For a completed job, this includes an `in_progress` delivery, because the one from the webhook may be missing.
    Otherwise as `run_news`.
    """
    job = {"workflow_name": _workflow_name(known.names), **answer}
    told = {
        "action": answer.get("status"),
        "workflow_job": job,
        "repository": repository_object(repository, asked.repository(known.names)),
    }
    stamp = [answer.get(name) for name in ("created_at", "started_at", "completed_at")]
    delivery = delivery_of("workflow_job", told, answer, stamp, asked)
    fact = interpret(delivery, asked.policy)
    if not isinstance(fact, Fact):
        return ()
    standing, standing_known = fact.told.standing, known.standing
    if standing.rank == standing_known.rank == Rank.PENDING and _moves(standing_known, standing):
        # A job has no `updated_at`. Before it runs, the `updated_at` of its deployment orders its states.
        told["deployment"] = {"updated_at": max(asked.now, standing_known.at + 1) / 1000}
        return (delivery_of("workflow_job", told, answer, [*stamp, standing_known.at], asked),)
    if not _moves(standing_known, JOBS.join(known, fact.told).standing):
        return ()
    if standing.rank == Rank.DONE and fact.told.start is not None:
        before = {**job, "status": "in_progress", "conclusion": None, "completed_at": None}
        ran = {**told, "action": "in_progress", "workflow_job": before}
        return delivery_of("workflow_job", ran, before, stamp[:2], asked), delivery
    return (delivery,)


def listed_jobs(page: Any) -> Mapping[int, Object]:
    """Return the jobs on a page of GitHub's list by ID. Items that are not jobs are ignored."""
    jobs = page.get("jobs") if isinstance(page, dict) else None
    listed = [one for one in jobs if isinstance(one, dict)] if isinstance(jobs, list) else []
    return {job["id"]: job for job in listed if isinstance(job.get("id"), int)}


def _moves(before: Standing, after: Standing) -> bool:
    """Return whether the state differs, and not only its time."""
    return (before.rank, before.status, before.conclusion) != (after.rank, after.status, after.conclusion)


def _workflow_name(names: Names) -> str | None:
    return names.workflow_name.value if names.workflow_name else None


def repository_object(repository: Object, name: str) -> Object:
    """Return the repository object of a payload, with the name in the metrics: it may have been renamed since."""
    return {field: repository.get(field) for field in ("id", "default_branch", "private")} | {"full_name": name}


def delivery_of(
    event: str, payload: Object, answer: Object, stamp: object, asked: Asked, *, source: str = RECONCILED
) -> Delivery:
    """Return a delivery. Its ID is a hash of its content, so the same answer of GitHub is counted once."""
    says = [asked.host, event, *(answer.get(name) for name in ("id", "run_attempt", "status", "conclusion")), stamp]
    name = msgspec.json.encode(says).decode()
    body = msgspec.json.encode(payload)
    return Delivery(str(uuid5(NAMESPACE, name)), event, body, asked.now, source=source, host=asked.host)
