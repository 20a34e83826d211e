"""Simulated jobs: their states, the payloads that GitHub sends about them, and their expected increments."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from promgithub.simulation import github_payloads
from promgithub.simulation.github_payloads import Payload, Repo, moment
from promgithub.simulation.truth import EXPECTED_DURATION_BUCKETS, EXPECTED_QUEUE_BUCKETS, Truth

BRANCHES = {"main": "main", "release/1.2": "release/1.2", "feature/x": "other"}
"""Branches, and their label values with the default of the setting BRANCHES."""

MERGE_QUEUE_BRANCH = f"gh-readonly-queue/main/pr-7-{github_payloads.SHA}"
"""A branch that a merge queue has created for a pull request."""

HEADS = BRANCHES | {MERGE_QUEUE_BRANCH: "merge_queue"}
"""The branches that runs are on, and their label values."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Runners: the labels in `runs-on`, the expected runner class, their group, and US dollars per minute, if any."""

    labels: tuple[str, ...]
    runner_class: str
    group: str
    usd: float | None = None
    free_in_public: bool = False


POOLS = (
    Pool(("ubuntu-latest",), "ubuntu-latest", "GitHub Actions", 0.006, free_in_public=True),
    Pool(("macos-15-xlarge",), "macos-15-xlarge", "GitHub Actions", 0.102),
    Pool(("self-hosted", "linux", "GPU"), "gpu,linux", "Default"),
    Pool(("self-hosted",), "self-hosted", "Default"),
)
"""The runners, with the classes and prices that apply without RUNNERS_FILE."""

MACHINES = 50
"""Number of runners."""

LONGEST_STORY = 5
"""Maximum number of deliveries about a job in one attempt."""

ANOMALY_METRIC = "promgithub_anomaly_total"


@dataclass(frozen=True, slots=True)
class PlayedAttempt:
    """A simulated run attempt. `began` is its start in Unix seconds; `fate` is its last state.

    With `keeps_ids`, jobs that a re-run carries over keep their IDs. Otherwise, each gets a new one.
    """

    run_id: int
    number: int
    began: int
    fate: str
    repo: Repo
    head: Repo
    branch: str
    workflow: str
    keeps_ids: bool = False

    @property
    def names(self) -> dict[str, str]:
        """The labels of the run and, as `sample_of` compares them, of its jobs."""
        label = HEADS[self.branch] if self.head is self.repo else "other"
        return {"repository": self.repo.full_name, "branch": label, "workflow_name": self.workflow}


@dataclass(frozen=True, slots=True)
class PlayedState:
    """A state of a job, and its start in Unix seconds; `on_runner` is True if the job is or was on a runner."""

    status: str
    at: int
    conclusion: str | None = None
    on_runner: bool = False


@dataclass(frozen=True, slots=True)
class Life:
    """The states of a job in order. `started` is when a runner takes the job, if one does.

    `gated_at` is when the deployment was created, or None if the job has no environment. GitHub updates the deployment
    with each state.
    """

    story: tuple[PlayedState, ...]
    started: int
    gated_at: int | None = None


@dataclass(frozen=True, slots=True)
class PlayedJob:
    """A job as reported in one attempt. `pool` is what it asks for, `runner` the ID of its runner."""

    attempt: PlayedAttempt
    number: int
    name: str
    pool: Pool
    runner: int
    created: int
    life: Life

    @property
    def last(self) -> PlayedState:
        """The newest state."""
        return self.life.story[-1]

    @property
    def succeeded(self) -> bool:
        """Whether "Re-run failed jobs" carries the job over."""
        return self.last.conclusion == "success"

    def payload(self, state: PlayedState) -> Payload:
        """Return GitHub's payload about a state."""
        started, gated_at = self.life.started, self.life.gated_at
        fields: dict[str, Any] = {
            "id": self.number,
            "run_id": self.attempt.run_id,
            "run_attempt": self.attempt.number,
            "workflow_name": self.attempt.workflow,
            "head_branch": self.attempt.branch,
            "name": self.name,
            "status": state.status,
            "conclusion": state.conclusion,
            "created_at": moment(self.created),
            "started_at": moment(started if state.on_runner else self.created),  # a placeholder until it runs
            "completed_at": moment(state.at) if state.status == "completed" else None,
            "labels": [] if state.conclusion == "skipped" else list(self.pool.labels),
            "runner_id": self.runner if state.on_runner else None,
            "runner_group_name": self.pool.group if state.on_runner else None,
        }
        return github_payloads.job(self.attempt.repo, fields, None if gated_at is None else (gated_at, state.at))

    def twin(self, number: int) -> "PlayedJob":
        """Return another job of the attempt with the same name and the same life, on another runner."""
        return replace(self, number=number, runner=self.runner % MACHINES + 1)

    def carried_over(self, attempt: PlayedAttempt, number: int, created: int) -> "PlayedJob":
        """Return the job as reported by a re-run that does not run it again: completed, otherwise unchanged."""
        return replace(
            self, attempt=attempt, number=number, created=created, life=replace(self.life, story=(self.last,))
        )

    def reckon(self, truth: Truth) -> None:
        """Add the expected increments of the job in the attempt that ran it."""
        story, names = self.life.story, self.attempt.names
        for status, conclusion in {(state.status, state.conclusion or "") for state in story}:
            truth.add("promgithub_job_status_total", names | {"job_status": status, "job_conclusion": conclusion})
        if any(state.on_runner for state in story):
            self._reckon_queue_time(truth)
        if self.last.status == "completed" and self.last.on_runner:
            labels = {**names, "job_conclusion": self.last.conclusion or ""}
            seconds = self.last.at - self.life.started
            truth.observe("promgithub_job_duration_seconds", labels, seconds, EXPECTED_DURATION_BUCKETS)
            self._reckon_cost(truth, seconds)
        labelled = any(state.conclusion != "skipped" for state in story)
        runner_class = self.pool.runner_class if labelled else "unknown"
        truth.gauge("job", names | {"runner_class": runner_class}, self.last.status)

    def _reckon_cost(self, truth: Truth, seconds: int) -> None:
        """Add the time on a runner, and its price. GitHub rounds each job up to a whole minute."""
        labels = {name: value for name, value in self.attempt.names.items() if name != "branch"}
        labels["runner_class"] = self.pool.runner_class
        truth.add("promgithub_job_busy_seconds_total", labels, seconds)
        free = self.pool.free_in_public and not self.attempt.repo.private
        if self.pool.usd is not None and not free:
            minutes = max(1, math.ceil(seconds / 60))
            truth.add("promgithub_job_billable_minutes_total", labels, minutes)
            truth.add("promgithub_job_cost_usd_total", labels, minutes * self.pool.usd)

    def _reckon_queue_time(self, truth: Truth) -> None:
        """Add the time in the queue.

        The queue time of a job with an environment starts at its newest `queued`, because waiting for an approval does
        not count. Any `queued` may arrive late, so this time is counted only after GRACE. The queue time of other jobs
        starts at their creation, which is in every delivery.
        """
        gated = self.life.gated_at is not None
        began = max(state.at for state in self.life.story if state.status == "queued") if gated else self.created
        labels = {name: value for name, value in self.attempt.names.items() if name != "branch"}
        labels |= {"runner_class": self.pool.runner_class, "runner_group": self.pool.group}
        seconds = self.life.started - began
        truth.observe("promgithub_job_queue_seconds", labels, seconds, EXPECTED_QUEUE_BUCKETS, after_grace=gated)


def life(chance: random.Random, created: int, *, ends: bool) -> Life:
    """Return the life of a job; `created` is in Unix seconds; `ends` is True if the job completes."""
    gated = chance.random() < 0.35
    released = created + chance.choice([20, 300]) if gated else created
    started = released + chance.choice([0, 2, 7, 45, 200])
    waits = [PlayedState("queued", created)]
    if gated:
        waits += [PlayedState("waiting", created + 1), PlayedState("queued", released)]
    runs = [*waits, PlayedState("in_progress", started, on_runner=True)]
    if not ends:
        story = chance.choice([waits[:2], waits, runs])
        return Life(tuple(story), started, created if gated else None)
    conclusion = chance.choice(["success"] * 4 + ["failure", "failure", "timed_out", "cancelled"])
    ran = [*runs, PlayedState("completed", started + chance.randint(1, 900), conclusion, on_runner=True)]
    skipped = [PlayedState("completed", created, "skipped")]
    cancelled = [*waits, PlayedState("completed", started, "cancelled")]
    rejected = [*waits[:2], PlayedState("completed", released, "failure")]
    story = chance.choice([*[ran] * 6, skipped, cancelled, rejected if gated else ran])
    return Life(tuple(story), started, created if gated and story is not skipped else None)


def phantom(attempt: PlayedAttempt, number: int, at: int, conclusion: str) -> Payload:
    """Return a `completed` payload of a check run that a step has created. It is not about a job."""
    fields: dict[str, Any] = {
        "id": number,
        "run_id": attempt.run_id,
        "run_attempt": attempt.number,
        "workflow_name": attempt.workflow,
        "head_branch": attempt.branch,
        "name": "test report",
        "status": "completed",
        "conclusion": conclusion,
        **dict.fromkeys(("created_at", "started_at", "completed_at"), moment(at)),
        "labels": [],
        "runner_id": None,
        "runner_group_name": None,
    }
    return github_payloads.job(attempt.repo, fields, None)


def reckon_phantom(truth: Truth) -> None:
    """Add the expected increment of a phantom. It is counted only after GRACE, because a `queued` may arrive late."""
    truth.add(ANOMALY_METRIC, {"kind": "phantom_job"}, after_grace=True)


def reckon_carried_over(truth: Truth) -> None:
    """Add the expected increment of a carried-over job with a new ID. With the old ID, there is no increment."""
    truth.add(ANOMALY_METRIC, {"kind": "carried_over_job"}, after_grace=True)


@dataclass
class Retries:
    """The ends of the jobs of one run, as far as they decide which jobs are flaky. Times are in Unix seconds."""

    failed: list[tuple[str, int]] = field(default_factory=list)
    succeeded: list[tuple[str, int]] = field(default_factory=list)

    def add(self, job: PlayedJob) -> None:
        """Add the last report about a job."""
        if not job.last.on_runner or job.last.status != "completed":
            return
        if job.last.conclusion in {"failure", "timed_out"}:
            self.failed.append((job.name, job.last.at))
        elif job.last.conclusion == "success" and job.attempt.number > 1:
            self.succeeded.append((job.name, job.life.started))

    def reckon(self, names: Mapping[str, str], truth: Truth) -> None:
        """Add the expected increments: one for each name that failed, and then started and succeeded."""
        pairs = product(self.failed, self.succeeded)
        for name in {name for (name, failed), (other, started) in pairs if name == other and started >= failed}:
            truth.add("promgithub_job_flaky_total", {**names, "job_name": name.partition(" (")[0]})
