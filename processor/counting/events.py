"""Interprets each GitHub event: turns a delivery into a fact or a tally. No state, no order, no I/O."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import msgspec

from processor.counting import payloads
from processor.counting.catalogue import (
    ANOMALIES,
    COMMITS,
    PULL_REQUESTS,
    PUSHES,
    PUSHES_IGNORED,
    KindLabels,
    PullRequestLabels,
    ReasonLabels,
    RepositoryLabels,
)
from processor.counting.ci_metrics import Tally
from processor.counting.descriptions import (
    JobDescription,
    RunDescription,
    first_failing_step,
    label_texts,
    text,
)
from processor.counting.fingerprints import Fingerprint, fingerprint
from processor.counting.flaky_jobs import Verdict
from processor.counting.jobs import JOBS
from processor.counting.known_job import UNBILLED, Finish, Gate, Job, JobKey, Start, WantedRunner
from processor.counting.label_values import (
    MERGE_QUEUE,
    MERGE_QUEUE_PREFIX,
    OTHER_BRANCH,
    UNKNOWN,
    BranchPolicy,
    clean,
    job_label,
)
from processor.counting.payloads import milliseconds
from processor.counting.runner_classes import RunnerClasses
from processor.counting.runs import RUNS, Run, RunEnd, RunKey
from processor.counting.states import FAILURES, Dated, Names, Rank, Seen, Standing, rank, waits
from processor.counting.subjects import Fact
from shared.delivery import Delivery, emitted_at, parse_guid
from shared.errors import PoisonError
from shared.hosts import parse_host

MAX_COMMITS_LISTED = 2048
"""Maximum number of commits that GitHub lists in one push (GitHub docs, "push" event: `commits`)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that affect counting.

    `branches` selects the branches that keep their name. Repositories of `home_host` (in lower case) have no host
    prefix. `runners` has the runner classes and their prices. `labels` has the optional labels that are switched on.
    """

    branches: BranchPolicy
    home_host: str
    runners: RunnerClasses
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Source:
    """The context of a payload: the GitHub host, the time in the delivery ID, and the policy."""

    host: str
    emitted: int
    policy: Policy

    def repository(self, repository: payloads.Repository | None) -> str:
        if repository is None or not repository.full_name:
            raise PoisonError("no_repository", "the payload has no repository name")
        name = clean(repository.full_name)
        return name if self.host == self.policy.home_host else f"{self.host}/{name}"

    def branch(self, branch: str | None, repository: payloads.Repository | None) -> str | None:
        if not branch:
            return None
        return self.policy.branches.label(branch, repository.default_branch if repository else None)


def guid(delivery: Delivery) -> UUID:
    """Return the delivery's ID. Raises `PoisonError` if it is not a GUID: duplicates could not be detected."""
    parsed = parse_guid(delivery.id)
    if parsed is None:
        raise PoisonError("bad_delivery_id", f"message_id {delivery.id[:80]!r} is not a GUID")
    return parsed


def interpret(delivery: Delivery, policy: Policy) -> Fact | Tally | None:
    """Return a fact about a subject, a tally to count at once, or None if the event is not counted.

    Raises `PoisonError` if the event is missing, or if the payload does not have the documented form or lacks a
    required field.
    """
    if not delivery.event:
        raise PoisonError("no_event", "the message has no event name (AMQP property type)")
    read = _READERS.get(delivery.event)
    if read is None:
        return None
    source = _Source(parse_host(delivery.host or "") or policy.home_host, emitted_at(guid(delivery)), policy)
    try:
        return read(delivery.body, source)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PoisonError("undecodable", f"{delivery.event}: {error}") from error


def run_fact(event: payloads.RunEvent, source: _Source) -> Fact | Tally:
    """Return the fact in a `workflow_run`. A re-run changes `run_started_at`, but not `created_at`.

    Without a name of the workflow, the label is its path, because the run's own name may differ from run to run
    (`run-name`).
    """
    run, workflow = event.workflow_run, event.workflow or payloads.Workflow()
    if run is None:
        return _null_subject()
    repository = event.repository or run.repository
    attempt = run.run_attempt or 1
    updated = milliseconds(run.updated_at)
    began = milliseconds(run.run_started_at)
    if began is None and attempt == 1:
        began = milliseconds(run.created_at)
    conclusion = _conclusion(run.status, run.conclusion)
    standing = _standing(rank(run.status or "", conclusion), run.status, conclusion, updated or 0, source)
    fork = _is_fork(run, repository)
    names = _names(
        standing,
        source.repository(repository),
        OTHER_BRANCH if fork else source.branch(run.head_branch, repository),
        workflow.name or workflow.path or run.path or run.name,
    )
    end = None
    if standing.rank == Rank.DONE:
        unmeasured = began is None or updated is None
        end = RunEnd(not conclusion, unmeasured, standing.at, source.emitted, conclusion, began, updated)
    known = Run(
        standing,
        names,
        _seen(standing),
        RunDescription(
            standing.rank,
            standing.at,
            standing.emitted,
            text(run.head_branch),
            run.run_number or 0,
            text(run.event),
        ),
        began,
        end,
        fork=fork,
        event=clean(run.event or "") if "event" in source.policy.labels else "",
    )
    return Fact(RUNS, RunKey(source.host, run.id, attempt), known)


def job_fact(event: payloads.JobEvent, source: _Source) -> Fact | Tally:
    """Return the fact in a `workflow_job`.

    Until a job runs, `started_at` is a copy of `created_at`, so it is used only from then on. A runner with ID 0 and
    name "" means no runner. A `completed` without labels, runner and steps is not a real job but a check run, unless
    the conclusion is `skipped`: skipped jobs have none of these (actions-runner-controller issues 2118 and 1326).
    """
    job = event.workflow_job
    if job is None:
        return _null_subject()
    attempt = job.run_attempt or 1
    created, started, completed = (milliseconds(t) for t in (job.created_at, job.started_at, job.completed_at))
    deployed = milliseconds(event.deployment.updated_at) if event.deployment else None
    at = max((t for t in (created, started, completed, deployed) if t is not None), default=0)
    conclusion = _conclusion(job.status, job.conclusion)
    # A completed job is final, unlike a run that is completed/action_required.
    done = Rank.DONE if job.status == "completed" else rank(job.status or "", conclusion)
    standing = _standing(done, job.status, conclusion, at, source)
    runner = job.runner_id if job.runner_id and job.runner_id > 0 else job.runner_name
    ran = bool(runner or job.steps) and conclusion != "skipped"
    start = finish = gate = None
    if standing.rank == Rank.PENDING and deployed is not None:
        gate = Gate(deployed, source.emitted, waits(standing.status))
    if standing.rank >= Rank.RUNNING and started is not None and runner and ran:
        execution = fingerprint("start", source.host, job.run_id, job.name, runner, started)
        group = clean(job.runner_group_name or "")
        start = Start(standing.rank, at, source.emitted, attempt, execution, group, created, started)
    if standing.rank == Rank.DONE:
        timed = started is not None and completed is not None
        parts = ("finish", source.host, job.run_id, job.name, started, completed, conclusion)
        execution = fingerprint(*parts) if timed else Fingerprint("")
        finish = Finish(
            not conclusion,
            0 if timed and ran else 1 if timed else 2,
            at,
            source.emitted,
            attempt,
            execution,
            conclusion,
            started,
            completed,
            ran,
        )
    return Fact(
        JOBS,
        JobKey(source.host, job.id),
        Job(
            run_id=job.run_id,
            attempt=attempt,
            standing=standing,
            names=_names(
                standing,
                source.repository(event.repository),
                source.branch(job.head_branch, event.repository),
                job.workflow_name,
            ),
            seen=_seen(standing),
            created=created,
            started=started if standing.rank == Rank.RUNNING else None,
            start=start,
            finish=finish,
            genuine=standing.rank != Rank.DONE or ran or bool(job.labels) or conclusion == "skipped",
            gated=event.deployment is not None,
            wanted=_wanted(job, event.repository, standing, source.policy.runners),
            job_name=job_label(clean(job.name or "")) if "job_name" in source.policy.labels else "",
            verdict=_verdict(job, attempt, finish, source),
            gate=gate,
            passed=deployed if standing.rank >= Rank.RUNNING else None,
            description=JobDescription(
                standing.rank,
                at,
                source.emitted,
                text(job.name),
                text(job.head_branch),
                label_texts(job.labels),
                text(job.runner_name),
                first_failing_step(job.steps) if conclusion in FAILURES else "",
            ),
        ),
    )


def push_tally(event: payloads.PushEvent, source: _Source) -> Tally:
    """Return the tally of a `push`: one push, and the commits that it lists.

    A merge queue pushes to branches of its own. GitHub sends the same commits again when it pushes them to the target
    branch (zulip issue 25629).
    """
    tally = Tally()
    labels = RepositoryLabels(source.repository(event.repository))
    if event.ref.startswith(f"refs/heads/{MERGE_QUEUE_PREFIX}"):
        PUSHES_IGNORED.inc(tally, ReasonLabels(MERGE_QUEUE))
        return tally
    PUSHES.inc(tally, labels)
    commits = len(event.commits or ())
    if commits:
        COMMITS.inc(tally, labels, by=commits)
    if commits >= MAX_COMMITS_LISTED:
        ANOMALIES.inc(tally, KindLabels("truncated_push"))
        tally.name_reports(0, labels._asdict())
    return tally


def pull_request_tally(event: payloads.PullRequestEvent, source: _Source) -> Tally:
    """Return the tally of a `pull_request`: its action. The action of closing by a merge is `merged`."""
    if event.pull_request is None:
        return _null_subject()
    base = event.pull_request.base or payloads.Base()
    action = clean(event.action or UNKNOWN)
    tally = Tally()
    labels = PullRequestLabels(
        source.repository(event.repository),
        source.branch(base.ref, event.repository) or OTHER_BRANCH,
        "merged" if action == "closed" and event.pull_request.merged else action,
    )
    PULL_REQUESTS.inc(tally, labels)
    return tally


def _null_subject() -> Tally:
    # GitHub has sent `"workflow_job": null` (ubicloud issue 1287). A dead letter could never be counted.
    tally = Tally()
    ANOMALIES.inc(tally, KindLabels("null_subject"))
    return tally


def _is_fork(run: payloads.RunPayload, repository: payloads.Repository | None) -> bool:
    # A fork may have a branch with the same name, such as main. For a deleted fork, `head_repository` is null.
    head = run.head_repository
    return head is not msgspec.UNSET and (head is None or repository is None or head.id != repository.id)


def _wanted(
    job: payloads.JobPayload, repository: payloads.Repository | None, standing: Standing, runners: RunnerClasses
) -> WantedRunner | None:
    labels = tuple(label for label in job.labels or () if isinstance(label, str))
    if not labels:
        return None  # such as a skipped job
    runner_class = runners.of(labels)
    free = runner_class.free_in_public and repository is not None and repository.private is False
    price = None if free else runner_class.price
    return WantedRunner(standing.at, standing.emitted, runner_class.name, UNBILLED if price is None else price)


def _verdict(job: payloads.JobPayload, attempt: int, finish: Finish | None, source: _Source) -> Verdict | None:
    """Return what the end of a job says about flakiness. The successes of a first attempt say nothing."""
    if finish is None or finish.lacking or not job.name:
        return None
    failed = finish.completed if finish.conclusion in FAILURES else None
    retried = finish.started if finish.conclusion == "success" and attempt > 1 else None
    if failed is None and retried is None:
        return None
    key = fingerprint("flaky", source.host, job.run_id, job.name)
    return Verdict(key, job_label(clean(job.name)), failed, retried)


def _conclusion(status: str | None, conclusion: str | None) -> str:
    return clean(conclusion or "") if status == "completed" else ""


def _standing(place: Rank, status: str | None, conclusion: str, at: int, source: _Source) -> Standing:
    if not status:
        raise PoisonError("no_status", "the payload has no status of the run or job")
    return Standing(place, at, source.emitted, clean(status), conclusion)


def _names(standing: Standing, repository: str, branch: str | None, workflow_name: str | None) -> Names:
    at, emitted = standing.at, standing.emitted
    return Names(
        Dated(at, emitted, repository),
        Dated(at, emitted, branch) if branch else None,
        Dated(at, emitted, clean(workflow_name)) if workflow_name else None,
    )


def _seen(standing: Standing) -> Seen:
    return () if standing.rank == Rank.DONE else ((standing.status, standing.conclusion),)


_Event = TypeVar("_Event", bound=msgspec.Struct)
_Reader = Callable[[bytes, _Source], Fact | Tally]


def _reader(event: type[_Event], read: Callable[[_Event, _Source], Fact | Tally]) -> _Reader:
    decoder = msgspec.json.Decoder(event)
    return lambda body, source: read(decoder.decode(body), source)


_READERS: dict[str, _Reader] = {
    "workflow_run": _reader(payloads.RunEvent, run_fact),
    "workflow_job": _reader(payloads.JobEvent, job_fact),
    "push": _reader(payloads.PushEvent, push_tally),
    "pull_request": _reader(payloads.PullRequestEvent, pull_request_tally),
}

COUNTED = frozenset(_READERS)
"""The events that are counted."""
