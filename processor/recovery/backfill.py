"""Backfill: reads the runs and jobs of the past from GitHub.

Open work is published to the broker, as reconciliation does. Finished work is counted here, in a transaction like that
of a batch, but by step of time and for a file: see `processor.counting.past`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from processor.counting.fold import news_of
from processor.counting.past import Span, count_past
from processor.recovery.access import RecoveryAccess
from processor.recovery.answers import Object
from processor.recovery.exclusive import check_lease
from processor.recovery.history import (
    MOST_RESULTS,
    CreatedWindow,
    History,
    Workflows,
    created_at,
    history,
    listed,
    moment,
    slim,
)
from processor.recovery.outages import OutageTolerance
from processor.recovery.redelivery import publish
from processor.recovery.requests import Request
from processor.store import past_rows, recovery
from processor.store.past_rows import Backfill
from shared.errors import GitHubRefused, GitHubUnavailable, NotOnGitHub
from shared.logs import get_logger

SAVED_EVERY = 20
"""How many runs are read before the progress is saved. After a kill, so many are read once more."""

MOST_ATTEMPTS = 100
"""The maximum number of attempts of a run that are read. GitHub allows 50 re-runs (GitHub docs, "Actions limits")."""

_ACTIONS = "the repository permission Actions: read (classic: repo)"
_CHECKS = "the repository permission Checks: read (classic: repo)"
_METADATA = "the repository permission Metadata: read (classic: repo)"

_log = get_logger(__name__)


@dataclass(slots=True)
class Backfilled:
    """What a backfill has read so far: the repository that it reads, and numbers.

    `left_out` is the number of runs and jobs that cannot be counted or that GitHub no longer shows. `unseen` has the
    repositories whose checks the token may not read: the time in the queue of their jobs is not known. `errors` has an
    error for each repository that the token may not read. `reached` is the creation time of the last run (Unix s).
    """

    repositories: int
    repository: str = ""
    place: int = 0
    reached: int = 0
    runs: int = 0
    jobs: int = 0
    opened: int = 0
    left_out: int = 0
    unseen: list[str] = field(default_factory=list)
    errors: list[GitHubRefused] = field(default_factory=list)


class ReadPast:
    """Reads the past of repositories."""

    def __init__(self, access: RecoveryAccess) -> None:
        self._access = access
        self._known: Backfill

    async def run(
        self, repositories: Sequence[str], since: timedelta, progress: Callable[[Backfilled], None]
    ) -> tuple[Backfill, Backfilled]:
        """Read what began in the last `since`, or go on with a backfill that was not completed.

        `progress` is called after each run. Raises `GitHubError`, `BrokerError`, `BusyError` or `StoreError`; what was
        done until then stays done.
        """
        async with self._access.store.connection() as connection:
            known = await past_rows.unfinished(connection)
            if known is None:
                now = await recovery.now(connection)
                known = await past_rows.begin(connection, now, now - int(since.total_seconds() * 1000))
            else:
                _log.info("going on with a backfill that was not completed", since=moment(known.since // 1000))
        self._known = known
        outcome = Backfilled(len(repositories))
        for place, name in enumerate(repositories, 1):
            outcome.place, outcome.repository = place, name
            try:
                await self._repository(name, outcome, progress)
            except GitHubRefused as error:
                outcome.errors.append(error)
        return self._known, outcome

    async def _repository(self, name: str, outcome: Backfilled, progress: Callable[[Backfilled], None]) -> None:
        check_lease(self._access.lease)
        repository = await self._access.github.get(Request("repository", f"/repos/{name}", name, _METADATA))
        workflows = Workflows(repository, await self._workflows(name))
        gates = await self._has_gates(name)
        key = name.lower()
        since = self._known.progress.get(key, self._known.since // 1000)
        async for window, runs in self._windows(name, CreatedWindow(since, self._access.now() // 1000)):
            for place, run in enumerate(runs, 1):
                for number in range(1, _attempts(run) + 1):
                    check_lease(self._access.lease)
                    await self._attempt(name, run, number, workflows, outcome, gates=gates)
                outcome.runs += 1
                outcome.reached = created_at(run)
                progress(outcome)
                if place % SAVED_EVERY == 0:
                    await self._save(key, created_at(run))
            await self._save(key, window.until)

    async def _save(self, repository: str, reached: int) -> None:
        self._known = replace(self._known, progress={**self._known.progress, repository: reached})
        async with self._access.store.connection() as connection:
            await past_rows.save_progress(connection, self._known)

    async def _windows(self, name: str, whole: CreatedWindow) -> AsyncIterator[tuple[CreatedWindow, list[Object]]]:
        """Yield windows of creation times and the runs in them, the oldest first. A full window is halved."""
        waiting = [whole]
        while waiting:
            check_lease(self._access.lease)
            window = waiting.pop()
            first = self._about(name, "runs", f"runs?per_page=100&created={window.query}")
            page, more = await self._access.github.page(first)
            total = page.get("total_count") if isinstance(page, dict) else None
            if not isinstance(total, int):
                raise GitHubUnavailable(f"{first.path}: the answer is not a list of runs")
            full = total >= MOST_RESULTS
            if full and (halves := window.halves()):
                waiting.extend(reversed(halves))
                continue
            if full:
                _log.warning("GitHub lists only the first 1,000 runs of this second", repository=name, at=window.query)
            runs = {run["id"]: slim(run) for run in listed(page, "workflow_runs")}
            async for page in self._pages(None if more is None else replace(first, path=more)):
                runs |= {run["id"]: slim(run) for run in listed(page, "workflow_runs")}
            yield window, sorted(runs.values(), key=lambda run: (created_at(run), run["id"]))

    async def _attempt(
        self, name: str, newest: Object, number: int, workflows: Workflows, outcome: Backfilled, *, gates: bool
    ) -> None:
        """Count an attempt of a run; `newest` is the run as GitHub lists it."""
        run_id = newest["id"]
        attempt = f"runs/{run_id}/attempts/{number}"
        told: History | None = None
        jobs: Sequence[Object] = ()
        # What cannot be read or stored now cannot be tomorrow, and must not keep the rest from being read.
        with OutageTolerance().isolated(repository=name, run_id=run_id, attempt=number):
            try:
                run = newest
                if number != _attempts(newest):
                    run = await self._access.github.get(self._about(name, "run", attempt))
                jobs = await self._all(self._about(name, "attempt_jobs", f"{attempt}/jobs?per_page=100"), "jobs")
                gated = await self._gated(name, run, jobs, outcome) if gates else frozenset()
                found = history(run, jobs, workflows, gated, self._access.asked())
                await self._count(found)
                told = found
            except NotOnGitHub as error:
                _log.warning("a run was deleted meanwhile", repository=name, run_id=run_id, error=str(error))
        if told is None:
            outcome.left_out += 1
            return
        outcome.jobs += len(jobs)
        outcome.opened += len(told.deliveries)
        outcome.left_out += told.left_out

    async def _count(self, told: History) -> None:
        if told.facts:
            span = Span(self._known.since, self._access.now())
            async with self._access.store.batch() as transaction:
                rows = await transaction.load(news_of(told.facts))
                counted = count_past(rows, told.facts, span)
                await transaction.write_past(rows, self._known.began_at, counted)
        for delivery in told.deliveries:
            await publish(self._access.publisher, delivery)

    async def _workflows(self, name: str) -> Mapping[int, Object]:
        first = self._about(name, "workflows", "workflows?per_page=100")
        return {workflow["id"]: workflow for workflow in await self._all(first, "workflows")}

    async def _has_gates(self, name: str) -> bool:
        """Return whether a job of the repository may have waited for the approval or the timer of an environment.

        https://docs.github.com/en/rest/deployments/environments#list-environments.
        """
        path = f"/repos/{name}/environments?per_page=100"
        try:
            environments = await self._all(Request("environments", path, name, _ACTIONS), "environments")
        except NotOnGitHub:
            return False
        except GitHubRefused:
            return True
        rules = [rule for one in environments for rule in one.get("protection_rules") or ()]
        return any(isinstance(rule, dict) and rule.get("type") != "branch_policy" for rule in rules)

    async def _gated(self, name: str, run: Object, jobs: Sequence[Object], outcome: Backfilled) -> frozenset[int]:
        """Return the IDs of the jobs with an environment: their check runs have a deployment.

        If the token may not read checks, these may be all.
        https://docs.github.com/en/rest/checks/runs#list-check-runs-in-a-check-suite; the check run of a job has its ID.
        """
        everyone = frozenset(job["id"] for job in jobs)
        suite = run.get("check_suite_id")
        if suite is None or name in outcome.unseen:
            return everyone
        path = f"/repos/{name}/check-suites/{suite}/check-runs?filter=all&per_page=100"
        try:
            checks = await self._all(Request("check_runs", path, name, _CHECKS), "check_runs")
        except NotOnGitHub:
            return everyone
        except GitHubRefused as error:
            _log.warning("the time in the queue is left out", repository=name, error=str(error))
            outcome.unseen.append(name)
            return everyone
        without = {check["id"] for check in checks if not check.get("deployment")}
        return everyone - without

    async def _all(self, first: Request, items: str) -> list[Object]:
        return [item async for page in self._pages(first) for item in listed(page, items)]

    async def _pages(self, request: Request | None) -> AsyncIterator[Any]:
        while request is not None:
            page, more = await self._access.github.page(request)
            yield page
            request = None if more is None else replace(request, path=more)

    def _about(self, name: str, endpoint: str, path: str) -> Request:
        return Request(endpoint, f"/repos/{name}/actions/{path}", name, _ACTIONS)


def _attempts(run: Object) -> int:
    """Return the number of attempts of a run, at most `MOST_ATTEMPTS`."""
    number = run.get("run_attempt")
    return min(max(1, number), MOST_ATTEMPTS) if isinstance(number, int) else 1
