"""Histories of CI with the truth about them: what the figures must be, reckoned from the plan and not from deliveries.

The plan says what happened to each run and job; deliveries are made from it as GitHub would send them.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from shared.delivery import Delivery
from tests import builders
from tests.figures import Figures, Sample

QUEUE_BOUNDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
DURATION_BOUNDS = (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600)
STEPS = ("queued", "in_progress", "completed")

Labels = Mapping[str, str]


@dataclass
class History:
    """Deliveries in the order in which they were planned, and the figures that they amount to."""

    first_serial: int = 0
    deliveries: list[Delivery] = field(default_factory=list)
    truth: dict[Sample, float] = field(default_factory=dict)

    def tell(self, payload: builders.Payload, second: float) -> None:
        """Add the delivery of something that happened at a second."""
        serial = self.first_serial + len(self.deliveries)
        self.deliveries.append(builders.delivery(payload, builders.guid(second, serial=serial)))

    def expect(self, name: str, labels: Labels, by: float = 1) -> None:
        """Add to a figure."""
        sample = (name, frozenset(labels.items()))
        self.truth[sample] = self.truth.get(sample, 0) + by

    def expect_observation(self, name: str, labels: Labels, seconds: float, bounds: Sequence[int]) -> None:
        """Add an observation to a histogram."""
        self.expect(f"{name}_sum", labels, seconds)
        self.expect(f"{name}_count", labels)
        for bound, le in [*((float(b), f"{b}.0") for b in bounds), (float("inf"), "+Inf")]:
            self.expect(f"{name}_bucket", {**labels, "le": le}, float(seconds <= bound))

    def plus(self, other: "History") -> Figures:
        """Return the figures of both."""
        samples = {*self.truth, *other.truth}
        return {sample: self.truth.get(sample, 0) + other.truth.get(sample, 0) for sample in samples}


@dataclass(frozen=True)
class _Plan:
    """What happens to one attempt: whose it is, when it begins, and whether it ends."""

    run_id: int
    attempt: int
    began: int
    ends: bool
    repo: builders.Payload
    names: dict[str, str]


def ci(seed: int, runs: int, *, first_id: int = 2**53) -> History:
    """Return a history of so many runs with two jobs each, some still open, some run again; ids start at `first_id`."""
    chance = random.Random(seed)  # noqa: S311 - a test that fails must fail again
    history = History(first_serial=seed * 1_000_000)
    for number in range(runs):
        _run(history, chance, first_id + number, number)
    return history


def _run(history: History, chance: random.Random, run_id: int, start: int) -> None:
    """Add a run with one or two attempts, then a push and a merged pull request."""
    repo = builders.repository(f"acme/{chance.choice(['gears', 'cogs', 'belts'])}")
    repository = repo["full_name"]
    names = {"repository": repository, "branch": "main", "workflow_name": chance.choice(["build", "deploy"])}
    attempts, at = chance.choice([1, 1, 1, 2]), start
    for attempt in range(1, attempts + 1):
        ends = attempt < attempts or chance.random() < 0.8
        at = _attempt(history, chance, _Plan(run_id, attempt, at, ends, repo, names))
    history.tell(builders.push(2, repo=repo), at)
    history.expect("promgithub_push_total", {"repository": repository})
    history.expect("promgithub_commit_pushed_total", {"repository": repository}, 2)
    history.tell(builders.pull_request("closed", merged=True, repo=repo), at)
    merged = {"repository": repository, "base_branch": "main", "pull_request_status": "merged"}
    history.expect("promgithub_pull_request_total", merged)


def _attempt(history: History, chance: random.Random, plan: _Plan) -> int:
    """Add an attempt and its jobs; return a second after its end."""
    names = plan.names
    run = partial(
        builders.run,
        plan.run_id,
        attempt=plan.attempt,
        began=plan.began,
        workflow=names["workflow_name"],
        repo=plan.repo,
    )
    for step, status in enumerate(STEPS[plan.attempt - 1 : 2]):  # a re-run is not requested again
        history.tell(run(status=status, updated=plan.began + step), plan.began + step)
        history.expect("promgithub_workflow_status_total", {**names, "workflow_status": status, "conclusion": ""})
    ended = max(_job(history, chance, plan, place) for place in range(2))
    if plan.ends:
        conclusion = chance.choice(["success", "failure"])
        history.tell(run(status="completed", conclusion=conclusion, updated=ended), ended)
        ending = {**names, "conclusion": conclusion}
        history.expect("promgithub_workflow_status_total", {**ending, "workflow_status": "completed"})
        metric = "promgithub_workflow_duration_seconds"
        history.expect_observation(metric, ending, ended - plan.began, DURATION_BOUNDS)
    if plan.attempt > 1:
        history.expect("promgithub_workflow_reruns_total", names)
    _expect_gauges(history, "workflow", names, "completed" if plan.ends else "in_progress")
    return ended + 10


def _job(history: History, chance: random.Random, plan: _Plan, place: int) -> int:
    """Add a job; return the second at which it ended, or would have."""
    names, job_id = plan.names, plan.run_id * 10 + plan.attempt * 2 + place
    waited, ran = chance.randint(0, 400), chance.randint(1, 4000)
    started = plan.began + waited
    conclusion = chance.choice(["success", "failure", "cancelled"])
    job = partial(
        builders.job,
        job_id,
        run_id=plan.run_id,
        attempt=plan.attempt,
        created=plan.began,
        workflow=names["workflow_name"],
        name=f"job {place}",
        repo=plan.repo,
    )
    on_runner = partial(job, started=started, runner=1 + job_id % 50)
    told = {
        "queued": (job(status="queued"), plan.began),
        "in_progress": (on_runner(status="in_progress"), started),
        "completed": (on_runner(status="completed", conclusion=conclusion, completed=started + ran), started + ran),
    }
    reached = STEPS if plan.ends else STEPS[: chance.choice([1, 2])]
    for status in reached:
        history.tell(*told[status])
        shown = conclusion if status == "completed" else ""
        labels = {**names, "job_status": status, "job_conclusion": shown}
        history.expect("promgithub_job_status_total", labels)
    if "in_progress" in reached:
        labels = {name: names[name] for name in ("repository", "workflow_name")} | {"runner_group": "GitHub Actions"}
        history.expect_observation("promgithub_job_queue_seconds", labels, waited, QUEUE_BOUNDS)
    if "completed" in reached:
        labels = {**names, "job_conclusion": conclusion}
        history.expect_observation("promgithub_job_duration_seconds", labels, ran, DURATION_BOUNDS)
    _expect_gauges(history, "job", names, reached[-1])
    return started + ran


def _expect_gauges(history: History, subject: str, names: Labels, status: str) -> None:
    for gauge in ("queued", "waiting", "in_progress"):
        history.expect(f"promgithub_{subject}_{gauge}", names, float(gauge == status))
