"""Histories of CI: what happens to runs and jobs, the deliveries that GitHub would send about it, and the truth."""

import json
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from promgithub.simulation import payloads
from promgithub.simulation.payloads import Payload, Repo, moment
from promgithub.simulation.truth import DURATION_BUCKETS, QUEUE_BUCKETS, Truth
from shared.delivery import Delivery

REPOSITORIES = tuple(
    Repo(9_000_000_000 + n, f"acme/{name}") for n, name in enumerate(("gears", "cogs", "belts", "axles"))
)
FORK = Repo(9_100_000_000, "stranger/gears", fork=True)
FORK_BRANCHES = ("main", "feature/x")
WORKFLOWS = ("build", "deploy", "nightly")
BRANCHES = {"main": "main", "release/1.2": "release/1.2", "feature/x": "other"}
"""Branches, and their label under the default of the setting BRANCHES."""

RUNNERS = {"ubuntu-latest": "GitHub Actions", "self-hosted": "Default"}
"""The label that a job asks for, and the group of the runner that it gets."""

MATRIX = ("test (3.11)", "test (3.12)", "test (3.13)", "lint")

SPAN = 7200
"""Seconds before now in which everything happens: three attempts in a row, at their longest, take less than half."""

MOST_ATTEMPTS = 3

LONGEST_STORY = 5
"""The most deliveries that a job takes."""

LONGEST_ATTEMPT = 3 + len(MATRIX) * LONGEST_STORY
"""The most deliveries that an attempt takes with its jobs."""

TICKS_BEFORE_1970 = 0x01B21DD213814000
"""Units of 100 ns, in which a delivery's ID says when it was made, from 1582 to 1970."""


@dataclass
class History:
    """Deliveries in the order in which GitHub would send them, and the truth about them."""

    deliveries: list[Delivery] = field(default_factory=list)
    truth: Truth = field(default_factory=Truth)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt of a run: its identity, where it belongs, when it begins, and its fate."""

    run_id: int
    number: int
    began: int
    fate: str
    repo: Repo
    head: Repo
    branch: str
    workflow: str

    @property
    def names(self) -> dict[str, str]:
        label = BRANCHES[self.branch] if self.head is self.repo else "other"
        return {"repository": self.repo.full_name, "branch": label, "workflow_name": self.workflow}

    @property
    def job_names(self) -> dict[str, str]:
        return self.names | {"branch": BRANCHES[self.branch]}


@dataclass(frozen=True, slots=True)
class _Seen:
    """A state that a job is seen in; `gate` is when its deployment was updated, if it has one."""

    status: str
    conclusion: str | None = None
    gate: int | None = None
    on_runner: bool = False
    """Whether the job is on a runner, or was."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A job: its identity, and the seconds of its life, should it come to that."""

    attempt: _Attempt
    number: int
    name: str
    asks_for: str
    created: int
    started: int
    ended: int

    def at(self, seen: _Seen) -> int:
        """Return when a state began."""
        if seen.status == "completed":
            return self.ended if seen.on_runner else self.started
        return self.started if seen.status == "in_progress" else seen.gate or self.created

    def payload(self, seen: _Seen) -> Payload:
        """Return what GitHub sends about a state."""
        fields: dict[str, Any] = {
            "id": self.number,
            "run_id": self.attempt.run_id,
            "run_attempt": self.attempt.number,
            "workflow_name": self.attempt.workflow,
            "head_branch": self.attempt.branch,
            "name": self.name,
            "status": seen.status,
            "conclusion": seen.conclusion,
            "created_at": moment(self.created),
            "started_at": moment(self.started if seen.on_runner else self.created),  # a placeholder until it runs
            "completed_at": moment(self.at(seen)) if seen.status == "completed" else None,
            "labels": [] if seen.conclusion == "skipped" else [self.asks_for],
            "runner_id": 1 + self.number % 50 if seen.on_runner else None,
            "runner_group_name": RUNNERS[self.asks_for] if seen.on_runner else None,
        }
        return payloads.job(self.attempt.repo, fields, seen.gate)


class Historian:
    """Makes one history; the same seed makes the same one but for times and identifiers."""

    def __init__(self, seed: int, now: float | None = None) -> None:
        """`now` in Unix seconds; identifiers are of this simulation alone, so that many can play on one store."""
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
        """Play a run with its jobs, in at most so many attempts."""
        chance = self._chance
        repo = chance.choice(REPOSITORIES)
        foreign = chance.random() < 0.1
        head, branch = (FORK, chance.choice(FORK_BRANCHES)) if foreign else (repo, chance.choice(list(BRANCHES)))
        attempts = min(most, chance.choice([1] * 8 + [2, 3]))
        run_id, workflow = self._identifier(), chance.choice(WORKFLOWS)
        first = at = self._now - SPAN + chance.randint(0, SPAN // 4)
        for number in range(1, attempts + 1):
            fate = "ended" if number < attempts or chance.random() < 0.8 else self._open_fate(number, foreign)
            at = self._attempt(_Attempt(run_id, number, at, fate, repo, head, branch, workflow), first)

    def _open_fate(self, number: int, foreign: bool) -> str:
        """Return how an attempt is left: only a first one is requested, and only a fork's needs approval."""
        if number > 1:
            return "in_progress"
        return self._chance.choice(["in_progress", "approval" if foreign else "queued", "pending"])

    def _attempt(self, attempt: _Attempt, first: int) -> int:
        """Play an attempt of a run that was made at `first`; return a second after its end."""
        tell = self._run_teller(attempt, first)
        if attempt.number > 1:  # a re-run is not requested again
            self._truth.add("promgithub_workflow_reruns_total", attempt.names)
        elif attempt.head is FORK:
            tell(attempt.began, "completed", "action_required", "requested")
        else:
            tell(attempt.began, "queued", None, "requested")
        if attempt.fate == "pending":  # held back by its concurrency group
            tell(attempt.began + 1, "pending", None, "requested")
        if attempt.fate not in {"ended", "in_progress"}:
            self._truth.gauge("workflow", attempt.names, "queued" if attempt.fate == "queued" else "waiting")
            return attempt.began + 5
        tell(attempt.began + 2, "in_progress", None, "in_progress")
        ended = max(self._job(attempt, name) for name in MATRIX[: self._chance.randint(1, len(MATRIX))])
        if attempt.fate == "ended":
            conclusion = self._chance.choice(["success", "success", "failure", "cancelled", "timed_out"])
            tell(ended, "completed", conclusion, "completed")
            labels = {**attempt.names, "conclusion": conclusion}
            metric = "promgithub_workflow_duration_seconds"
            self._truth.observe(metric, labels, ended - attempt.began, DURATION_BUCKETS)
        self._truth.gauge("workflow", attempt.names, attempt.fate)
        return ended + 5

    def _run_teller(self, attempt: _Attempt, first: int) -> Callable[[float, str, str | None, str], None]:
        def tell(at: float, status: str, conclusion: str | None, action: str) -> None:
            fields = {
                "id": attempt.run_id,
                "run_attempt": attempt.number,
                "head_branch": attempt.branch,
                "status": status,
                "conclusion": conclusion,
                "created_at": moment(first),
                "run_started_at": moment(attempt.began),
                "updated_at": moment(at),
            }
            payload = payloads.run(attempt.repo, attempt.head, attempt.workflow, action, fields)
            self._tell(at, "workflow_run", payload)
            labels = {"workflow_status": status, "conclusion": conclusion or ""}
            self._truth.add("promgithub_workflow_status_total", attempt.names | labels)

        return tell

    def _job(self, attempt: _Attempt, name: str) -> int:
        """Play a job; return the second at which it ended, or would have."""
        chance = self._chance
        created = attempt.began + 3
        started = created + chance.choice([0, 2, 7, 45, 200])
        ended = started + chance.randint(1, 900)
        job = _Job(attempt, self._identifier(), name, chance.choice(list(RUNNERS)), created, started, ended)
        story = self._story(created, attempt.fate == "ended" or chance.random() < 0.4)
        for seen in story:
            self._tell(job.at(seen), "workflow_job", job.payload(seen))
        self._reckon(job, story)
        return job.ended

    def _story(self, created: int, ends: bool) -> list[_Seen]:
        """Return the states that a job goes through."""
        queued, running = _Seen("queued"), _Seen("in_progress", on_runner=True)
        gated = [_Seen(status, gate=created + wait) for wait, status in enumerate(("queued", "waiting", "queued"))]
        if not ends:
            return self._chance.choice([[queued], [queued, running], gated[:2], gated])
        conclusion = self._chance.choice(["success"] * 4 + ["failure", "failure", "timed_out", "cancelled"])
        ran = [running, _Seen("completed", conclusion, on_runner=True)]
        return self._chance.choice(
            [
                *([[queued, *ran]] * 6),
                [*gated, *ran],
                [_Seen("completed", "skipped")],
                [queued, _Seen("completed", "cancelled")],
            ]
        )

    def _reckon(self, job: _Job, story: list[_Seen]) -> None:
        names = job.attempt.job_names
        for status, conclusion in {(seen.status, seen.conclusion or "") for seen in story}:
            labels = {"job_status": status, "job_conclusion": conclusion}
            self._truth.add("promgithub_job_status_total", names | labels)
        if any(seen.on_runner for seen in story):
            labels = {name: names[name] for name in ("repository", "workflow_name")}
            labels["runner_group"] = RUNNERS[job.asks_for]
            self._truth.observe("promgithub_job_queue_seconds", labels, job.started - job.created, QUEUE_BUCKETS)
        last = story[-1]
        if last.status == "completed" and last.on_runner:
            labels = {**names, "job_conclusion": last.conclusion or ""}
            self._truth.observe("promgithub_job_duration_seconds", labels, job.ended - job.started, DURATION_BUCKETS)
        self._truth.gauge("job", names, last.status)

    def _push(self) -> None:
        repo, commits = self._chance.choice(REPOSITORIES), self._chance.randint(1, 3)
        at = self._now - self._chance.randint(0, SPAN)
        self._tell(at, "push", payloads.push(repo, commits, at))
        self._truth.add("promgithub_push_total", {"repository": repo.full_name})
        self._truth.add("promgithub_commit_pushed_total", {"repository": repo.full_name}, commits)

    def _pull_request(self) -> None:
        repo, base = self._chance.choice(REPOSITORIES), self._chance.choice(list(BRANCHES))
        action, merged = self._chance.choice(
            [("opened", False), ("synchronize", False), ("closed", True), ("closed", False)]
        )
        at = self._now - self._chance.randint(0, SPAN)
        self._tell(at, "pull_request", payloads.pull_request(repo, action, merged=merged, base=base, at=at))
        labels = {"repository": repo.full_name, "base_branch": BRANCHES[base]}
        self._truth.add(
            "promgithub_pull_request_total", labels | {"pull_request_status": "merged" if merged else action}
        )
