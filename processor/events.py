"""What each GitHub event means: a delivery in, what it tells out. No state, no order, no I/O."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import msgspec

from processor import payloads
from processor.lifecycle import Ending, Job, Naming, Rank, Run, Seen, Standing, Start, rank
from processor.payloads import milliseconds
from processor.series import OTHER_BRANCH, UNKNOWN, BranchPolicy, Tally, clean, fingerprint
from shared.delivery import Delivery, emitted_at, parse_guid
from shared.errors import PoisonError

MAX_COMMITS_LISTED = 2048
"""GitHub lists no more commits than this in one push (GitHub docs, "push" event: `commits`)."""


@dataclass(frozen=True, slots=True)
class RunFact:
    """A delivery told something about an attempt of a workflow run."""

    run_id: int
    attempt: int
    told: Run


@dataclass(frozen=True, slots=True)
class JobFact:
    """A delivery told something about a job."""

    job_id: int
    told: Job


@dataclass(frozen=True, slots=True)
class CountFact:
    """A delivery that is counted as it is, with no state behind it."""

    tally: Tally


Fact = RunFact | JobFact | CountFact


def guid(delivery: Delivery) -> UUID:
    """Return the delivery's ID. Raises `PoisonError` if it is not a GUID: nothing could tell its duplicates."""
    parsed = parse_guid(delivery.id)
    if parsed is None:
        raise PoisonError("bad_delivery_id", f"message_id {delivery.id[:80]!r} is not a GUID")
    return parsed


def interpret(delivery: Delivery, branches: BranchPolicy) -> Fact | None:
    """Return what a delivery tells, or None for an event that is not counted.

    Raises `PoisonError` if there is no event, or the payload is not what GitHub documents for it, or lacks what a
    metric cannot do without.
    """
    if not delivery.event:
        raise PoisonError("no_event", "the message does not say which event it is (AMQP property type)")
    read = _READERS.get(delivery.event)
    if read is None:
        return None
    emitted = emitted_at(guid(delivery))
    try:
        return read(delivery.body, emitted, branches)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PoisonError("undecodable", f"{delivery.event}: {error}") from error


def run_fact(event: payloads.RunEvent, emitted: int, branches: BranchPolicy) -> Fact:
    """Return what `workflow_run` tells. `created_at` survives a re-run, `run_started_at` does not."""
    run, workflow = event.workflow_run, event.workflow or payloads.Workflow()
    repository = event.repository or run.repository
    attempt = run.run_attempt or 1
    updated = milliseconds(run.updated_at)
    began = milliseconds(run.run_started_at)
    if began is None and attempt == 1:
        began = milliseconds(run.created_at)
    standing = _standing(run.status, run.conclusion, updated or 0, emitted)
    return RunFact(
        run.id,
        attempt,
        Run(
            attempt=attempt,
            standing=standing,
            naming=_naming(
                standing,
                repository,
                _run_branch(run, repository, branches),
                workflow.name or run.name or workflow.path or run.path,
            ),
            seen=_seen(standing),
            began=began,
            ending=_ending(standing, began, updated, ran=True),
        ),
    )


def job_fact(event: payloads.JobEvent, emitted: int, branches: BranchPolicy) -> Fact:
    """Return what `workflow_job` tells.

    Until a job runs, `started_at` repeats `created_at`, so it is believed only from then on. A runner of id 0 and
    name "" is no runner. A `completed` with no labels, no runner and no steps is a check run in disguise, unless the
    job was skipped: skipped jobs look just like that (actions-runner-controller issues 2118 and 1326).
    """
    job = event.workflow_job
    created, started, completed = (milliseconds(t) for t in (job.created_at, job.started_at, job.completed_at))
    updated = milliseconds(event.deployment.updated_at) if event.deployment else None
    at = max((t for t in (created, started, completed, updated) if t is not None), default=0)
    standing = _standing(job.status, job.conclusion, at, emitted)
    on_runner = bool(job.runner_id or job.runner_name)
    ran = bool(on_runner or job.steps) and standing.conclusion != "skipped"
    begun = standing.rank >= Rank.RUNNING and started is not None
    return JobFact(
        job.id,
        Job(
            run_id=job.run_id,
            attempt=job.run_attempt or 1,
            standing=standing,
            naming=_naming(
                standing, event.repository, _branch(job.head_branch, event.repository, branches), job.workflow_name
            ),
            seen=_seen(standing),
            created=created,
            started=started if standing.rank == Rank.RUNNING else None,
            start=_start(standing, created, started, job.runner_group_name) if begun and ran and on_runner else None,
            ending=_ending(standing, started, completed, ran=ran),
            genuine=standing.rank != Rank.DONE or ran or bool(job.labels) or standing.conclusion == "skipped",
            fingerprint=_execution_fingerprint(job) if standing.rank == Rank.DONE and started and completed else "",
        ),
    )


def push_fact(event: payloads.PushEvent, _emitted: int, _branches: BranchPolicy) -> Fact:
    """Return what `push` tells: one push, and the commits that it lists."""
    tally = Tally()
    repository = _repository_name(event.repository)
    tally.count("promgithub_push", repository)
    commits = len(event.commits or ())
    if commits:
        tally.count("promgithub_commit_pushed", repository, by=commits)
    if commits >= MAX_COMMITS_LISTED:
        tally.count("promgithub_anomaly", "truncated_push")
    return CountFact(tally)


def pull_request_fact(event: payloads.PullRequestEvent, _emitted: int, branches: BranchPolicy) -> Fact:
    """Return what `pull_request` tells: its action, where a close that merged is `merged`."""
    base = event.pull_request.base or payloads.Base()
    action = clean(event.action or UNKNOWN)
    tally = Tally()
    tally.count(
        "promgithub_pull_request",
        _repository_name(event.repository),
        _branch(base.ref, event.repository, branches) or OTHER_BRANCH,
        "merged" if action == "closed" and event.pull_request.merged else action,
    )
    return CountFact(tally)


def _repository_name(repository: payloads.Repository | None) -> str:
    if repository is None or not repository.full_name:
        raise PoisonError("no_repository", "the payload does not say which repository it is about")
    return clean(repository.full_name)


def _branch(branch: str | None, repository: payloads.Repository | None, branches: BranchPolicy) -> str:
    return branches.label(branch, repository.default_branch if repository else None) if branch else ""


def _run_branch(run: payloads.Run, repository: payloads.Repository | None, branches: BranchPolicy) -> str:
    # A fork's branch may be called main without being ours; GitHub sends a null head for a fork that was deleted.
    head = run.head_repository
    ours = head is msgspec.UNSET or (head is not None and repository is not None and head.id == repository.id)
    return _branch(run.head_branch, repository, branches) if ours else OTHER_BRANCH


def _standing(status: str | None, conclusion: str | None, at: int, emitted: int) -> Standing:
    if not status:
        raise PoisonError("no_status", "the payload does not say which status the run or job has")
    kept = clean(conclusion or "") if status == "completed" else ""
    return Standing(rank(status, kept), at, emitted, clean(status), kept)


def _naming(
    standing: Standing, repository: payloads.Repository | None, branch: str, workflow_name: str | None
) -> Naming:
    workflow = clean(workflow_name or "")
    missing = (not branch) + (not workflow)
    return Naming(missing, standing.at, standing.emitted, _repository_name(repository), branch, workflow)


def _seen(standing: Standing) -> Seen:
    return () if standing.rank == Rank.DONE else ((standing.status, standing.conclusion),)


def _start(standing: Standing, created: int | None, started: int | None, group: str | None) -> Start | None:
    if created is None or started is None:
        return None
    return Start(standing.rank, standing.at, standing.emitted, clean(group or ""), started - created)


def _ending(standing: Standing, began: int | None, ended: int | None, *, ran: bool) -> Ending | None:
    if standing.rank != Rank.DONE:
        return None
    measured = ran and began is not None and ended is not None
    duration = ended - began if began is not None and ended is not None and ran else 0
    return Ending(standing.at, standing.emitted, standing.conclusion, measured, duration)


def _execution_fingerprint(job: payloads.Job) -> str:
    # One runner executes one job at a time: with the runner, equal names and times mean the same execution.
    runner = job.runner_id or job.runner_name or None
    return fingerprint(job.run_id, job.name, job.started_at, job.completed_at, runner).hex()


_Event = TypeVar("_Event", payloads.RunEvent, payloads.JobEvent, payloads.PushEvent, payloads.PullRequestEvent)
_Reader = Callable[[bytes, int, BranchPolicy], Fact]


def _reader(event: type[_Event], read: Callable[[_Event, int, BranchPolicy], Fact]) -> _Reader:
    decoder = msgspec.json.Decoder(event)
    return lambda body, emitted, branches: read(decoder.decode(body), emitted, branches)


_READERS: dict[str, _Reader] = {
    "workflow_run": _reader(payloads.RunEvent, run_fact),
    "workflow_job": _reader(payloads.JobEvent, job_fact),
    "push": _reader(payloads.PushEvent, push_fact),
    "pull_request": _reader(payloads.PullRequestEvent, pull_request_fact),
}

COUNTED = frozenset(_READERS)
"""The events that are counted."""
