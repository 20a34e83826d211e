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
WORKFLOWS = ("build", "deploy", "nightly")
BRANCHES = {"main": "main", "release/1.2": "release/1.2", "feature/x": "other"}
"""Branches, and their label under the default of the setting BRANCHES."""

RUNNER_GROUP = "GitHub Actions"

SPAN = 3600
"""Seconds before now in which everything happens."""

LONGEST_RUN = 36
"""More deliveries than one run with its jobs and attempts takes."""

_TICKS_BEFORE_1970 = 0x01B21DD213814000


@dataclass
class History:
    """Deliveries in the order in which GitHub would send them, and the truth about them."""

    deliveries: list[Delivery] = field(default_factory=list)
    truth: Truth = field(default_factory=Truth)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt of a run: its identity, where it belongs, when it begins, and whether it ends."""

    run_id: int
    number: int
    began: int
    ends: bool
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

    @property
    def ran(self) -> bool:
        """Whether the job is on a runner, or was."""
        return self.status == "in_progress" or self.conclusion in {"success", "failure"}


@dataclass(frozen=True, slots=True)
class _Job:
    """A job: its identity, and the seconds of its life, should it come to that."""

    attempt: _Attempt
    number: int
    place: int
    created: int
    started: int
    ended: int

    def at(self, seen: _Seen) -> int:
        """Return when a state began."""
        if seen.status == "completed":
            return self.ended if seen.ran else self.started
        return self.started if seen.status == "in_progress" else seen.gate or self.created

    def payload(self, seen: _Seen) -> Payload:
        """Return what GitHub sends about a state."""
        fields: dict[str, Any] = {
            "id": self.number,
            "run_id": self.attempt.run_id,
            "run_attempt": self.attempt.number,
            "workflow_name": self.attempt.workflow,
            "head_branch": self.attempt.branch,
            "name": f"job {self.place}",
            "status": seen.status,
            "conclusion": seen.conclusion,
            "created_at": moment(self.created),
            "started_at": moment(self.started if seen.ran else self.created),  # a placeholder until it runs
            "completed_at": moment(self.at(seen)) if seen.status == "completed" else None,
            "labels": [] if seen.conclusion == "skipped" else ["ubuntu-latest"],
            "runner_id": 1 + self.number % 50 if seen.ran else None,
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
        self._told: list[tuple[float, str, Payload]] = []
        self._truth = Truth()

    def history(self, count: int) -> History:
        """Return a history of exactly `count` deliveries."""
        while count - len(self._told) > LONGEST_RUN:
            self._run()
            if self._chance.random() < 0.3:
                self._pull_request()
        while len(self._told) < count:
            self._push()
        self._told.sort(key=lambda told: told[0])
        deliveries = [self._delivery(*told, place) for place, told in enumerate(self._told)]
        return History(deliveries, self._truth)

    def _tell(self, at: float, event: str, payload: Payload) -> None:
        self._told.append((at, event, payload))

    def _delivery(self, at: float, event: str, payload: Payload, place: int) -> Delivery:
        ticks = int(at * 10_000_000) + _TICKS_BEFORE_1970 + place
        high = (ticks >> 48) & 0x0FFF
        fields = (ticks & 0xFFFFFFFF, (ticks >> 32) & 0xFFFF, high, 0x80, place & 0xFF, self._node)
        body = json.dumps(payload, separators=(",", ":")).encode()
        return Delivery(str(uuid.UUID(fields=fields, version=1)), event, body, 0)

    def _identifier(self) -> int:
        self._next_id += 1
        return self._next_id

    def _run(self) -> None:
        chance = self._chance
        repo = chance.choice(REPOSITORIES)
        foreign = chance.random() < 0.1
        head, branch = (FORK, "feature/x") if foreign else (repo, chance.choice(list(BRANCHES)))
        attempts = 2 if chance.random() < 0.15 else 1
        run_id, workflow = self._identifier(), chance.choice(WORKFLOWS)
        at = self._now - SPAN + chance.randint(0, SPAN // 3)
        for number in range(1, attempts + 1):
            ends = number < attempts or chance.random() < 0.9
            at = self._attempt(_Attempt(run_id, number, at, ends, repo, head, branch, workflow), first=at)

    def _attempt(self, attempt: _Attempt, first: int) -> int:
        """Play an attempt; return a second after its end."""
        tell = self._run_teller(attempt, first)
        if attempt.number == 1:  # a re-run is not requested again
            if attempt.head is FORK:
                tell(attempt.began, "completed", "action_required", "requested")
            else:
                tell(attempt.began, "queued", None, "requested")
        else:
            self._truth.add("promgithub_workflow_reruns_total", attempt.names)
        tell(attempt.began + 2, "in_progress", None, "in_progress")
        ended = max(self._job(attempt, place) for place in range(self._chance.randint(1, 4)))
        if attempt.ends:
            conclusion = self._chance.choice(["success", "success", "failure", "cancelled"])
            tell(ended, "completed", conclusion, "completed")
            labels = {**attempt.names, "conclusion": conclusion}
            metric = "promgithub_workflow_duration_seconds"
            self._truth.observe(metric, labels, ended - attempt.began, DURATION_BUCKETS)
        self._truth.gauge("workflow", attempt.names, "ended" if attempt.ends else "in_progress")
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

    def _job(self, attempt: _Attempt, place: int) -> int:
        """Play a job; return the second at which it ended, or would have."""
        chance = self._chance
        created = attempt.began + 3
        started = created + chance.choice([0, 2, 7, 45, 200])
        job = _Job(attempt, self._identifier(), place, created, started, started + chance.randint(1, 900))
        fate = chance.choice(["ran"] * 6 + ["gated", "skipped", "cancelled"]) if attempt.ends else "open"
        conclusion = chance.choice(["success", "success", "failure"])
        story = {
            "ran": [_Seen("queued"), _Seen("in_progress"), _Seen("completed", conclusion)],
            "gated": [
                *(_Seen(status, gate=created + wait) for wait, status in enumerate(("queued", "waiting", "queued"))),
                *(_Seen("in_progress"), _Seen("completed", conclusion)),
            ],
            "skipped": [_Seen("completed", "skipped")],
            "cancelled": [_Seen("queued"), _Seen("completed", "cancelled")],
            "open": [_Seen("queued"), _Seen("in_progress")][: chance.choice([1, 2])],
        }[fate]
        for seen in story:
            self._tell(job.at(seen), "workflow_job", job.payload(seen))
        self._reckon(job, story)
        return job.ended

    def _reckon(self, job: "_Job", story: list["_Seen"]) -> None:
        names = job.attempt.job_names
        for status, conclusion in {(seen.status, seen.conclusion or "") for seen in story}:
            labels = {"job_status": status, "job_conclusion": conclusion}
            self._truth.add("promgithub_job_status_total", names | labels)
        if any(seen.status == "in_progress" for seen in story):
            labels = {name: names[name] for name in ("repository", "workflow_name")} | {"runner_group": RUNNER_GROUP}
            self._truth.observe("promgithub_job_queue_seconds", labels, job.started - job.created, QUEUE_BUCKETS)
        last = story[-1]
        if last.status == "completed" and last.ran:
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
        action, merged = self._chance.choice([("opened", False), ("closed", True), ("closed", False)])
        at = self._now - self._chance.randint(0, SPAN)
        self._tell(at, "pull_request", payloads.pull_request(repo, action, merged=merged, base=base))
        labels = {"repository": repo.full_name, "base_branch": BRANCHES[base]}
        self._truth.add(
            "promgithub_pull_request_total", labels | {"pull_request_status": "merged" if merged else action}
        )
