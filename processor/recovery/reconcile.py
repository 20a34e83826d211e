"""GitHub is asked about runs and jobs that have been open for long without news."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from processor.fold import RunKey
from processor.lease import Lease
from processor.lifecycle import Job, Run, deleted
from processor.recovery.answers import job_news, listed_jobs, run_news
from processor.recovery.client import GitHub
from processor.recovery.redeliver import publish
from processor.recovery.requests import Request
from processor.recovery.setbacks import Setbacks
from processor.recovery.turn import check
from processor.series import BranchPolicy, Tally
from processor.store import Store, recovery
from processor.store.recovery import Window
from shared.broker import Publisher
from shared.delivery import Delivery
from shared.errors import GitHubError, GitHubRefused, NotOnGitHub, PoisonError
from shared.logs import get_logger

CHUNK = 200
"""Runs or jobs that are taken from the store together."""

_ACTIONS = "the repository permission Actions: read (classic: repo)"
_METADATA = "the repository permission Metadata: read (classic: repo)"

_log = get_logger(__name__)

_Object = Mapping[str, Any]
_Attempt = tuple[str, int, int]
"""Repository, run id and attempt."""


@dataclass(slots=True)
class Corrections:
    """What GitHub was asked about, and what came of it.

    `deleted` is by kind (run, job); `errors` has one for each repository that GitHub does not show.
    """

    asked: int = 0
    corrected: int = 0
    deleted: Counter[str] = field(default_factory=Counter)
    errors: list[GitHubError] = field(default_factory=list)


class Reconcile:
    """Asks about each open run and job once. Holds `lease` meanwhile."""

    def __init__(
        self,
        github: GitHub,
        store: Store,
        publisher: Publisher,
        lease: Lease,
        *,
        branches: BranchPolicy,
        after: timedelta,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`after`: how long there must have been no news; `clock` gives Unix seconds."""
        self._github = github
        self._store = store
        self._publisher = publisher
        self._lease = lease
        self._branches = branches
        self._after = after
        self._clock = clock
        self._outcome = Corrections()
        self._repositories: dict[str, _Object | None] = {}
        self._shown: set[str] = set()
        self._setbacks = Setbacks()

    async def run(self) -> Corrections:
        """Ask about all that look stuck now; return what came of it.

        Raises `GitHubError`, `BrokerError`, `BusyError`, or what `engine.is_failure` recognises. What was done until
        then stays done, and is what the next time asks about last.
        """
        began = self._now()
        window = Window(began - int(self._after.total_seconds() * 1000), began, CHUNK)
        while runs := await self._open_runs(window):
            for key, run in runs.items():
                check(self._lease)
                with self._setbacks.tolerated():
                    await self._run(key, run)
        while jobs := await self._open_jobs(window):
            for attempt, group in _by_attempt(jobs).items():
                check(self._lease)
                with self._setbacks.tolerated():
                    await self._jobs(attempt, group)
        self._setbacks.raise_last()
        return self._outcome

    async def _run(self, key: RunKey, run: Run) -> None:
        # Noted before, so that what GitHub cannot answer does not come first the next time too.
        async with self._store.connection() as connection:
            await recovery.asked_runs(connection, [key], self._now())
        self._outcome.asked += 1
        name, (run_id, attempt) = run.naming.repository, key
        repository = await self._repository(name)
        if repository is not None:
            try:
                answer = await self._github.get(_about(name, "run", f"runs/{run_id}/attempts/{attempt}"))
                await self._tell(run_news(run, answer, repository, self._branches, self._now()))
            except NotOnGitHub:
                await self._close(name, {key: run}, {})
            except GitHubRefused as error:
                self._give_up(name, error)
            except PoisonError as error:
                _log.warning("GitHub's answer about a run makes no sense", run_id=run_id, error=str(error))

    async def _jobs(self, attempt: _Attempt, jobs: Mapping[int, Job]) -> None:
        async with self._store.connection() as connection:
            await recovery.asked_jobs(connection, list(jobs), self._now())
        self._outcome.asked += len(jobs)
        repository = await self._repository(attempt[0])
        if repository is not None:
            try:
                listed = await self._listed(attempt) if len(jobs) > 1 else {}
                for job_id, job in jobs.items():
                    await self._job(job_id, job, repository, listed.get(job_id))
            except GitHubRefused as error:
                self._give_up(attempt[0], error)

    async def _job(self, job_id: int, job: Job, repository: _Object, listed: _Object | None) -> None:
        try:
            answer = listed or await self._github.get(_about(job.naming.repository, "job", f"jobs/{job_id}"))
            await self._tell(job_news(job, answer, repository, self._branches, self._now()))
        except NotOnGitHub:
            await self._close(job.naming.repository, {}, {job_id: job})
        except PoisonError as error:
            _log.warning("GitHub's answer about a job makes no sense", job_id=job_id, error=str(error))

    async def _listed(self, attempt: _Attempt) -> Mapping[int, _Object]:
        """Return the jobs of an attempt by id, which costs less than to ask for each; none if GitHub has no list."""
        name, run_id, number = attempt
        jobs: dict[int, _Object] = {}
        path = f"runs/{run_id}/attempts/{number}/jobs?per_page=100"
        request: Request | None = _about(name, "attempt_jobs", path)
        while request is not None:
            try:
                page, more = await self._github.page(request)
            except NotOnGitHub:
                return {}
            jobs |= listed_jobs(page)
            request = None if more is None else Request(request.endpoint, more, request.scope, request.needs)
        return jobs

    async def _repository(self, name: str) -> _Object | None:
        """Return GitHub's account of a repository, or None if it shows none.

        Then the token may not see it, and that it does not find a run there would say nothing.
        """
        if name not in self._repositories:
            try:
                answer = await self._github.get(Request("repository", f"/repos/{name}", name, _METADATA, again=True))
                self._repositories[name] = answer
            except GitHubRefused as error:
                self._give_up(name, error)
        return self._repositories[name]

    def _give_up(self, name: str, error: GitHubRefused) -> None:
        """Ask nothing more about a repository this time."""
        self._repositories[name] = None
        self._outcome.errors.append(error)

    async def _shows_runs(self, name: str) -> bool:
        """Return whether GitHub shows the runs of a repository, so that one that it does not show is gone."""
        if name not in self._shown:
            try:
                await self._github.get(_about(name, "runs", "runs?per_page=1"))
                self._shown.add(name)
            except GitHubRefused as error:
                self._give_up(name, error)
        return name in self._shown

    async def _tell(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            await publish(self._publisher, delivery)
        self._outcome.corrected += bool(deliveries)

    async def _close(self, name: str, runs: Mapping[RunKey, Run], jobs: Mapping[int, Job]) -> None:
        """Close what GitHub does not know any more, unless there was news of it meanwhile."""
        if not await self._shows_runs(name):
            return
        async with self._store.batch(self._now()) as transaction:
            known_runs, known_jobs = await transaction.load_runs(runs), await transaction.load_jobs(jobs)
            gone_runs = {key: deleted(run) for key, run in known_runs.items() if run == runs[key]}
            gone_jobs = {key: deleted(job) for key, job in known_jobs.items() if job == jobs[key]}
            tally = Tally()
            for kind, closed in (("run", gone_runs.values()), ("job", gone_jobs.values())):
                for one in closed:
                    tally.count("promgithub_stale", kind, one.stale)
            await transaction.save_runs(gone_runs)
            await transaction.save_jobs(gone_jobs)
            await transaction.add(tally)
        self._outcome.deleted.update(run=len(gone_runs), job=len(gone_jobs))

    async def _open_runs(self, window: Window) -> Mapping[RunKey, Run]:
        async with self._store.connection() as connection:
            return await recovery.open_runs(connection, window)

    async def _open_jobs(self, window: Window) -> Mapping[int, Job]:
        async with self._store.connection() as connection:
            return await recovery.open_jobs(connection, window)

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _about(repository: str, endpoint: str, path: str) -> Request:
    return Request(endpoint, f"/repos/{repository}/actions/{path}", repository, _ACTIONS, again=True)


def _by_attempt(jobs: Mapping[int, Job]) -> Mapping[_Attempt, Mapping[int, Job]]:
    groups: dict[_Attempt, dict[int, Job]] = defaultdict(dict)
    for job_id, job in jobs.items():
        groups[job.naming.repository, job.run_id, job.attempt][job_id] = job
    return groups
