"""Simulated histories of CI: runs and jobs, the deliveries that GitHub would send, and the expected metrics."""

import json
import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from promgithub.simulation import github_payloads
from promgithub.simulation.github_payloads import Payload, Repo, moment
from promgithub.simulation.stories import (
    BRANCHES,
    HEADS,
    LONGEST_STORY,
    MACHINES,
    MERGE_QUEUE_BRANCH,
    POOLS,
    PlayedAttempt,
    PlayedJob,
    Retries,
    life,
    phantom,
    reckon_carried_over,
    reckon_phantom,
)
from promgithub.simulation.truth import EXPECTED_DURATION_BUCKETS, FORK_WORKFLOW, Truth
from shared.delivery import Delivery

REPOSITORIES = tuple(
    Repo(9_000_000_000 + n, f"acme/{name}", private=n % 2 == 1)
    for n, name in enumerate(("gears", "cogs", "belts", "axles"))
)
FORK = Repo(9_100_000_000, "stranger/gears", fork=True)
FORK_BRANCHES = ("main", "feature/x")
WORKFLOWS = ("build", "deploy", "nightly")
MATRIX = ("test (3.11)", "test (3.12)", "test (3.13)", "lint")

SPAN = 7200
"""Length of a history in seconds; it ends now. Runs start in the first quarter, and three attempts in a row take less
than two thirds."""

MOST_ATTEMPTS = 3

LONGEST_ATTEMPT = 3 + 1 + len(MATRIX) * LONGEST_STORY
"""Maximum number of deliveries of an attempt: about the run, about a phantom job, and about jobs."""

TICKS_BEFORE_1970 = 0x01B21DD213814000
"""Time from 1582 to 1970 in units of 100 ns, the time unit in a delivery's ID."""


@dataclass
class History:
    """Deliveries in the order in which GitHub would send them, and the expected metrics."""

    deliveries: list[Delivery] = field(default_factory=list)
    truth: Truth = field(default_factory=Truth)


class Historian:
    """Creates one history. The same seed creates the same history, except times and identifiers."""

    def __init__(self, seed: int, now: float | None = None) -> None:
        """`now` is in Unix seconds. The identifiers are unique, so that several simulations can use one store."""
        self._chance = random.Random(seed)  # noqa: S311 - made to be repeated
        self._now = int(time.time() if now is None else now)
        self._next_id = 2**53 + time.time_ns() // 1000
        self._node = uuid.uuid4().int & 0xFFFFFFFFFFFF
        self._told: list[tuple[float, str, bytes]] = []
        self._truth = Truth()

    def history(self, count: int) -> History:
        """Return a history of exactly `count` deliveries."""
        while (room := count - len(self._told)) > 0:
            if (attempts := min(room // LONGEST_ATTEMPT, MOST_ATTEMPTS)) and self._chance.random() < 0.6:
                self._run(attempts)
            else:
                self._chance.choice([self._push, self._pull_request])()
        self._told.sort(key=lambda told: told[0])
        deliveries = [self._delivery(*told, place) for place, told in enumerate(self._told)]
        return History(deliveries, self._truth)

    def _tell(self, at: float, event: str, payload: Payload) -> None:
        self._told.append((at, event, json.dumps(payload, separators=(",", ":")).encode()))

    def _delivery(self, at: float, event: str, body: bytes, place: int) -> Delivery:
        ticks = int(at * 10_000_000) + TICKS_BEFORE_1970 + place
        high = (ticks >> 48) & 0x0FFF
        fields = (ticks & 0xFFFFFFFF, (ticks >> 32) & 0xFFFF, high, 0x80, place & 0xFF, self._node)
        return Delivery(str(uuid.UUID(fields=fields, version=1)), event, body, 0)

    def _identifier(self) -> int:
        self._next_id += 1
        return self._next_id

    def _run(self, most: int) -> None:
        """Play a run with its jobs, in at most `most` attempts."""
        chance = self._chance
        repo = chance.choice(REPOSITORIES)
        foreign = chance.random() < 0.1
        head, branch = (FORK, chance.choice(FORK_BRANCHES)) if foreign else (repo, chance.choice(list(HEADS)))
        workflow = FORK_WORKFLOW if foreign and branch == "main" else chance.choice(WORKFLOWS)
        attempts = min(most, chance.choice([1] * 4 + [2, 2, 3]))
        run_id, keeps_ids = self._identifier(), chance.random() < 0.4
        first = at = self._now - SPAN + chance.randint(0, SPAN // 4)
        jobs: Sequence[PlayedJob] = ()
        retries = Retries()
        for number in range(1, attempts + 1):
            fate = "ended" if number < attempts or chance.random() < 0.8 else self._open_fate(number, foreign)
            attempt = PlayedAttempt(run_id, number, at, fate, repo, head, branch, workflow, keeps_ids)
            at, jobs = self._attempt(attempt, first, jobs)
            for job in jobs:
                retries.add(job)
        retries.reckon(attempt.names, self._truth)

    def _open_fate(self, number: int, foreign: bool) -> str:
        """Return the last state of an open attempt. Only first attempts can be queued; only forks need an approval."""
        if number > 1:
            return "in_progress"
        return self._chance.choice(["in_progress", "approval" if foreign else "queued", "pending"])

    def _attempt(
        self, attempt: PlayedAttempt, first: int, before: Sequence[PlayedJob]
    ) -> tuple[int, Sequence[PlayedJob]]:
        """Play an attempt of a run that was created at `first`; return a time shortly after its end, and its jobs.

        `before` has the jobs of the previous attempt.
        """
        tell = self._run_teller(attempt, first)
        if attempt.number > 1:  # a re-run is not requested again
            self._truth.add("promgithub_workflow_reruns_total", attempt.names)
        elif attempt.head is FORK:
            tell(attempt.began, "completed", "action_required", "requested")
        else:
            tell(attempt.began, "queued", None, "requested")
        if attempt.fate == "pending":  # waits for its concurrency group
            tell(attempt.began + 1, "pending", None, "requested")
        if attempt.fate not in {"ended", "in_progress"}:
            self._truth.gauge("workflow", attempt.names, "queued" if attempt.fate == "queued" else "waiting")
            return attempt.began + 5, ()
        tell(attempt.began + 2, "in_progress", None, "in_progress")
        jobs = self._rerun(attempt, before) if before else self._jobs(attempt)
        self._phantom(attempt)
        ended = max(attempt.began + 3, *(job.last.at for job in jobs))
        if attempt.fate == "ended":
            conclusion = self._chance.choice(["success", "success", "failure", "cancelled", "timed_out"])
            tell(ended, "completed", conclusion, "completed")
            labels = {**attempt.names, "conclusion": conclusion}
            metric = "promgithub_workflow_duration_seconds"
            self._truth.observe(metric, labels, ended - attempt.began, EXPECTED_DURATION_BUCKETS)
        self._truth.gauge("workflow", attempt.names, attempt.fate)
        return ended + 5, jobs

    def _run_teller(self, attempt: PlayedAttempt, first: int) -> Callable[[float, str, str | None, str], None]:
        def tell(at: float, status: str, conclusion: str | None, action: str) -> None:
            fields = {
                "id": attempt.run_id,
                "run_attempt": attempt.number,
                "head_branch": attempt.branch,
                "event": "merge_group" if attempt.branch == MERGE_QUEUE_BRANCH else "push",
                "status": status,
                "conclusion": conclusion,
                "created_at": moment(first),
                "run_started_at": moment(attempt.began),
                "updated_at": moment(at),
            }
            payload = github_payloads.run(attempt.repo, attempt.head, attempt.workflow, action, fields)
            self._tell(at, "workflow_run", payload)
            labels = {"workflow_status": status, "conclusion": conclusion or ""}
            self._truth.add("promgithub_workflow_status_total", attempt.names | labels)

        return tell

    def _jobs(self, attempt: PlayedAttempt) -> list[PlayedJob]:
        """Play the jobs of a first attempt. Some have the same name, and some of these differ only in ID and runner."""
        jobs: list[PlayedJob] = []
        for name in MATRIX[: self._chance.randint(1, len(MATRIX))]:
            kind = self._chance.random()
            if jobs and kind < 0.15:
                jobs.append(self._play(jobs[-1].twin(self._identifier())))
            else:
                jobs.append(self._job(attempt, jobs[-1].name if jobs and kind < 0.25 else name))
        return jobs

    def _rerun(self, attempt: PlayedAttempt, before: Sequence[PlayedJob]) -> list[PlayedJob]:
        """Play the jobs of a re-run. "Re-run failed jobs" carries over the successful ones, "Re-run all jobs" none."""
        kept = [job for job in before if job.succeeded]
        if len(kept) == len(before) or self._chance.random() < 0.2:
            kept = []
        return [self._carry_over(attempt, job) if job in kept else self._job(attempt, job.name) for job in before]

    def _carry_over(self, attempt: PlayedAttempt, job: PlayedJob) -> PlayedJob:
        """Report a job again, with its old ID or a new one, right after the start of the re-run."""
        number, created, at = job.number, job.created, attempt.began + 3
        if not attempt.keeps_ids:
            number, created = self._identifier(), self._chance.choice([created, at])
            reckon_carried_over(self._truth)
        carried = job.carried_over(attempt, number, created)
        self._tell(at, "workflow_job", carried.payload(carried.last))
        return carried

    def _job(self, attempt: PlayedAttempt, name: str) -> PlayedJob:
        """Play a job."""
        number, created = self._identifier(), attempt.began + 3
        pool = self._chance.choice(POOLS)
        lived = life(self._chance, created, ends=attempt.fate == "ended" or self._chance.random() < 0.4)
        return self._play(PlayedJob(attempt, number, name, pool, 1 + number % MACHINES, created, lived))

    def _play(self, job: PlayedJob) -> PlayedJob:
        for state in job.life.story:
            self._tell(state.at, "workflow_job", job.payload(state))
        job.reckon(self._truth)
        return job

    def _phantom(self, attempt: PlayedAttempt) -> None:
        """In some attempts, report a check run that a step has created."""
        if self._chance.random() < 0.15:
            at, conclusion = attempt.began + 3, self._chance.choice(["success", "action_required"])
            self._tell(at, "workflow_job", phantom(attempt, self._identifier(), at, conclusion))
            reckon_phantom(self._truth)

    def _push(self) -> None:
        repo, commits = self._chance.choice(REPOSITORIES), self._chance.randint(1, 3)
        at = self._now - self._chance.randint(0, SPAN)
        branch = self._chance.choice(["main", "main", "main", MERGE_QUEUE_BRANCH])
        self._tell(at, "push", github_payloads.push(repo, branch, commits, at))
        if branch == MERGE_QUEUE_BRANCH:  # the later push to main has the same commits
            self._truth.add("promgithub_push_ignored_total", {"reason": "merge_queue"})
            return
        self._truth.add("promgithub_push_total", {"repository": repo.full_name})
        self._truth.add("promgithub_commit_pushed_total", {"repository": repo.full_name}, commits)

    def _pull_request(self) -> None:
        repo, base = self._chance.choice(REPOSITORIES), self._chance.choice(list(BRANCHES))
        action, merged = self._chance.choice(
            [("opened", False), ("synchronize", False), ("closed", True), ("closed", False)]
        )
        at = self._now - self._chance.randint(0, SPAN)
        self._tell(at, "pull_request", github_payloads.pull_request(repo, action, merged=merged, base=base, at=at))
        labels = {"repository": repo.full_name, "base_branch": BRANCHES[base]}
        self._truth.add(
            "promgithub_pull_request_total", labels | {"pull_request_status": "merged" if merged else action}
        )
