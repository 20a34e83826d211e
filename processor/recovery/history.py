"""Turns what GitHub's REST API lists of the past into facts to count and deliveries to publish. Pure.

The list of runs: https://docs.github.com/en/rest/actions/workflow-runs#list-workflow-runs-for-a-repository. It has at
most `MOST_RESULTS` runs for a window of creation times, and the newest attempt of each.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from processor.counting.events import interpret
from processor.counting.known_job import Start
from processor.counting.payloads import RunPayload, milliseconds
from processor.counting.states import Rank
from processor.counting.subjects import Fact
from processor.recovery.answers import Asked, Object, delivery_of, repository_object
from shared.delivery import BACKFILLED, Delivery
from shared.errors import PoisonError

MOST_RESULTS = 1000
"""Maximum number of runs that GitHub lists for a window (GitHub docs, "List workflow runs for a repository")."""

_RUN_FIELDS = (*RunPayload.__struct_fields__, "workflow_id", "check_suite_id")


class CreatedWindow(NamedTuple):
    """A window of creation times in Unix seconds; both ends are part of it."""

    since: int
    until: int

    @property
    def query(self) -> str:
        """The window as the parameter `created`."""
        return "..".join(map(moment, self))

    def halves(self) -> "Sequence[CreatedWindow]":
        """Return the two halves, the earlier first, or nothing if a second is left."""
        middle = (self.since + self.until) // 2
        if middle >= self.until:
            return ()
        return CreatedWindow(self.since, middle), CreatedWindow(middle + 1, self.until)


@dataclass(frozen=True, slots=True)
class Workflows:
    """A repository, as GitHub's REST API has it, and its workflows by ID."""

    repository: Object
    by_id: Mapping[int, Object] = field(default_factory=dict)

    def of(self, run: Object, jobs: Sequence[Object]) -> Object:
        """Return the name and the path of a run's workflow, as a webhook has them.

        GitHub does not list workflows that were deleted. Their jobs still have the name.
        """
        found = self.by_id.get(run.get("workflow_id") or 0, {})
        name = found.get("name") or next((job["workflow_name"] for job in jobs if job.get("workflow_name")), None)
        return {"name": name, "path": found.get("path") or run.get("path")}


@dataclass(slots=True)
class History:
    """What an attempt says: facts about finished work, and deliveries about open work.

    `left_out` is the number of runs and jobs that cannot be counted.
    """

    facts: list[Fact] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    left_out: int = 0


def moment(at: int) -> str:
    """Return Unix seconds as GitHub writes them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def slim(run: Object) -> Object:
    """Return a listed run with the fields that are used only: up to `MOST_RESULTS` of them are in memory."""
    kept = {name: run[name] for name in _RUN_FIELDS if name in run}
    for name in ("head_repository", "repository"):
        if isinstance(kept.get(name), dict):
            kept[name] = {"id": kept[name].get("id"), "full_name": kept[name].get("full_name")}
    return kept


def created_at(run: Object) -> int:
    """Return when a run was created, in Unix seconds."""
    return (milliseconds(run.get("created_at")) or 0) // 1000


def listed(page: Any, name: str) -> list[Object]:
    """Return the objects with an ID on a page of one of GitHub's lists. Other items are ignored."""
    items = page.get(name) if isinstance(page, dict) else None
    objects = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return [item for item in objects if isinstance(item.get("id"), int)]


def history(run: Object, jobs: Sequence[Object], workflows: Workflows, gated: Collection[int], asked: Asked) -> History:
    """Return what an attempt of a run and its jobs say.

    GitHub lists only the last state of each. The states before it that are certain are added: a job that ran in this
    attempt was queued and in progress, and so the run was in progress. `gated` has the IDs of jobs with an environment:
    waiting for an approval cannot be separated from waiting for a runner, so their time in the queue stays unknown.
    """
    found = History()
    workflow = workflows.of(run, jobs)
    repository = repository_object(workflows.repository, str(workflows.repository.get("full_name")))
    began = milliseconds(run.get("run_started_at")) or milliseconds(run.get("created_at")) or 0
    starts: list[int] = []
    for job in jobs:
        named: Object = {**job, "workflow_name": job.get("workflow_name") or workflow["name"]}
        context: Object = {"repository": repository} | ({"deployment": {}} if job["id"] in gated else {})
        fact = _told(found, _job(named, context, asked), asked)
        if fact is None:
            continue
        start: Start | None = fact.told.start
        states = [named]
        if start is not None and start.started >= began:
            starts.append(start.started)
            states += _states_before(named, start)
        elif start is not None:  # carried over from the attempt in which it ran, and in which it waited
            states = [{**named, "created_at": None}]
        found.facts += [_fact(_job(state, context, asked), asked) for state in states]
    if _told(found, _run(run, workflow, repository, asked), asked) is not None:
        news: list[Object] = [run]
        if starts:
            news.append({**run, "status": "in_progress", "conclusion": None, "updated_at": min(starts) / 1000})
        found.facts += [_fact(_run(state, workflow, repository, asked), asked) for state in news]
    return found


def _states_before(job: Object, start: Start) -> list[Object]:
    """Return the states of a job that ran before it completed."""
    running = {**job, "status": "in_progress", "conclusion": None, "completed_at": None}
    created = milliseconds(job.get("created_at"))
    if created is None or created > start.started:
        return [running]
    return [running, {**running, "status": "queued", "started_at": None}]


def _told(found: History, delivery: Delivery, asked: Asked) -> Fact | None:
    """Return the fact about finished work. Open work is added to `found`, as a delivery."""
    try:
        fact = _fact(delivery, asked)
    except PoisonError:
        found.left_out += 1
        return None
    if fact.told.standing.rank == Rank.DONE:
        return fact
    found.deliveries.append(delivery)
    return None


def _fact(delivery: Delivery, asked: Asked) -> Fact:
    fact = interpret(delivery, asked.policy)
    if not isinstance(fact, Fact):
        raise PoisonError("undecodable", f"{delivery.event}: no run and no job")
    return fact


def _run(run: Object, workflow: Object, repository: Object, asked: Asked) -> Delivery:
    payload = {"action": run.get("status"), "workflow_run": run, "workflow": workflow, "repository": repository}
    return delivery_of("workflow_run", payload, run, run.get("updated_at"), asked, source=BACKFILLED)


def _job(job: Object, context: Object, asked: Asked) -> Delivery:
    payload = {"action": job.get("status"), "workflow_job": job, **context}
    stamp = [job.get(name) for name in ("created_at", "started_at", "completed_at")]
    return delivery_of("workflow_job", payload, job, stamp, asked, source=BACKFILLED)
