"""Hypothesis strategies for consistent histories of a run, whose jobs share executions, and their truth."""

from dataclasses import dataclass, field
from itertools import count, product
from typing import Any

from hypothesis import strategies as st

from promgithub.simulation.truth import FORK_WORKFLOW
from shared.delivery import Delivery
from tests.support import builders
from tests.support.builders import Payload

NAMES = ("acme/gears", "main", "build")


@dataclass
class World:
    """The deliveries of one run in the order of their emission, and what they are worth once all is settled.

    `ends`, `queues`, `durations` are the numbers of contributions to the job metrics; `anomalies` is by kind.
    `failed` has the name and the end of each job that failed, `retried` the name and the start of each success that is
    reported by a later attempt, both in seconds.
    """

    deliveries: list[Delivery] = field(default_factory=list)
    ends: int = 0
    queues: list[int] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    anomalies: dict[str, int] = field(default_factory=dict)
    failed: list[tuple[str, int]] = field(default_factory=list)
    retried: list[tuple[str, int]] = field(default_factory=list)

    @property
    def flaky(self) -> int:
        """The number of names of jobs that failed and then started and succeeded."""
        pairs = product(self.failed, self.retried)
        return len({name for (name, failed), (other, started) in pairs if name == other and failed <= started})

    def anomaly(self, kind: str) -> None:
        """Note an anomaly."""
        self.anomalies[kind] = self.anomalies.get(kind, 0) + 1


@dataclass(frozen=True)
class _Job:
    """A job as GitHub sees it: what its payloads have in common."""

    job_id: int
    name: str
    fate: str
    gate: int | None
    created: int
    started: int
    completed: int
    runner: int


FATES = ("success", "success", "failure", "failure", "cancelled", "skipped", "phantom", "running", "queued")


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a run: up to three attempts, twins, jobs carried over under old or new ids, gates, partial reports.

    It may come from a fork or a merge queue.
    """
    world, ids, serials = World(), count(1), count(1)
    foreign = draw(st.booleans())
    branch = draw(st.sampled_from(["main", builders.MERGE_QUEUE_BRANCH]))
    new_ids = draw(st.booleans())
    attempts = draw(st.integers(1, 3))

    def emit(payload: Payload) -> None:
        serial = next(serials)
        guid = builders.guid(serial, serial=serial)
        world.deliveries.append(builders.delivery(_of(payload, branch, foreign=foreign), guid))

    def run_job(name: str, attempt: int, runner: int, shared: tuple[int, int, int] | None) -> _Job:
        fate = draw(st.sampled_from(FATES))
        base = 1000 * attempt
        created, queued, ran = shared or (
            base + draw(st.integers(0, 2)),
            draw(st.integers(-1, 3)),
            draw(st.integers(-1, 4)),
        )
        gate = draw(st.one_of(st.none(), st.none(), st.integers(0, 5)))
        started = created + queued if gate is None else created + gate + max(0, queued)
        job = _Job(next(ids), name, fate, gate, created, started, started + ran, runner)
        for payload in _reports(draw, job, attempt, keyless=attempts == 1 or not new_ids):
            emit(payload)
        _reckon(world, job)
        if job.fate == "failure":
            world.failed.append((name, job.completed))
        elif job.fate == "success" and attempt > 1:
            world.retried.append((name, job.started))
        return job

    names = [f"job {n}" for n in range(draw(st.integers(1, 2)))]
    jobs: list[_Job] = []
    for name in names:
        twins = draw(st.integers(1, 3))
        times = (1000, draw(st.integers(0, 3)), draw(st.integers(0, 4))) if draw(st.booleans()) else None
        jobs += [run_job(name, 1, 10 + next(ids), times) for _ in range(twins)]
    emit(builders.run(status="in_progress", updated=999, began=999))
    for attempt in range(2, attempts + 1):
        again: list[_Job] = []
        for job in jobs:
            if job.fate == "failure":
                again.append(run_job(job.name, attempt, 10 + next(ids), None))
            elif job.fate in {"success", "cancelled", "skipped"}:
                job_id = next(ids) if new_ids else job.job_id
                late = draw(st.booleans()) and job.started < 1000 * attempt
                own = {"created": 1000 * attempt + 1} if late and new_ids else {}
                emit(_completed(job, attempt, job_id=job_id, **own))
                if new_ids:
                    world.anomaly("carried_over_job")
                if job.fate == "success":
                    world.retried.append((job.name, job.started))
                again.append(_Job(job_id, *_after_id(job)))
        jobs = again
        emit(builders.run(attempt=attempt, status="in_progress", began=1000 * attempt, updated=1000 * attempt))
    return world


def _of(payload: Payload, branch: str, *, foreign: bool) -> Payload:
    """Return the payload of a run on a branch, or of its job. Runs of a fork have a workflow of their own."""
    workflow = FORK_WORKFLOW if foreign else "build"
    if "workflow_job" in payload:
        job = payload["workflow_job"] | {"head_branch": branch, "workflow_name": workflow}
        return payload | {"workflow_job": job}
    head = {"head_branch": branch, "head_repository": builders.FORK if foreign else builders.REPOSITORY}
    return payload | {"workflow_run": payload["workflow_run"] | head, "workflow": {"name": workflow}}


def _after_id(job: _Job) -> tuple[Any, ...]:
    return job.name, job.fate, job.gate, job.created, job.started, job.completed, job.runner


def _payload(job: _Job, attempt: int, status: str, **fields: Any) -> Payload:
    released = None if job.gate is None else job.created + job.gate
    given = {"job_id": job.job_id, "created": job.created, "gate": released, "labels": ["macos-15-xlarge"]} | fields
    return builders.job(given.pop("job_id"), attempt=attempt, status=status, name=job.name, **given)


def _completed(job: _Job, attempt: int, **fields: Any) -> Payload:
    if job.fate in {"cancelled", "skipped"}:
        labels: dict[str, Any] = {"labels": []} if job.fate == "skipped" else {}
        times = {"started": job.created, "completed": job.created}
        return _payload(job, attempt, "completed", conclusion=job.fate, **times, **labels, **fields)
    times = {"started": job.started, "completed": job.completed}
    return _payload(job, attempt, "completed", conclusion=job.fate, runner=job.runner, **times, **fields)


def _reports(draw: st.DrawFn, job: _Job, attempt: int, *, keyless: bool) -> list[Payload]:
    """Return all that GitHub says of a job that is not carried over."""
    if job.fate == "phantom":
        times = {"started": job.created, "completed": job.created}
        conclusion = draw(st.sampled_from(["success", "action_required"]))
        return [_payload(job, attempt, "completed", conclusion=conclusion, labels=[], gate=None, **times)]
    if job.fate == "skipped":
        return [_completed(job, attempt)]
    queued = _payload(job, attempt, "queued")
    gated = [_payload(job, attempt, "waiting", gate=job.created)] if job.gate else []
    if job.fate == "queued":
        return [*gated, queued]
    if job.fate == "cancelled":
        return [*gated, queued, _completed(job, attempt)]
    running = _payload(job, attempt, "in_progress", started=job.started, runner=job.runner)
    if job.fate == "running":
        return [*gated, queued, running]
    partial = draw(st.sampled_from(["", "", "no runner", "no times" if keyless else ""]))
    reports = [*gated, queued, running, _completed(job, attempt)]
    if partial == "no runner":
        reports.append(
            _payload(
                job,
                attempt,
                "completed",
                conclusion=job.fate,
                started=job.started,
                completed=job.completed,
                runner=None,
            )
        )
    if partial == "no times":
        bare = _completed(job, attempt)
        bare["workflow_job"] |= {"started_at": None, "completed_at": None}
        reports.append(bare)
    return reports


def _reckon(world: World, job: _Job) -> None:
    """Add what a job is worth that is not carried over."""
    if job.fate == "phantom":
        world.anomaly("phantom_job")
        return
    if job.fate in {"success", "failure", "cancelled", "skipped"}:
        world.ends += 1
    if job.fate in {"success", "failure", "running"}:
        began = job.created if job.gate is None else job.created + job.gate
        if job.started < job.created:
            world.anomaly("negative_queue_time")
        else:
            world.queues.append(1000 * (job.started - began))
    if job.fate in {"success", "failure"}:
        if job.completed < job.started:
            world.anomaly("negative_job_duration")
        else:
            world.durations.append(1000 * (job.completed - job.started))
