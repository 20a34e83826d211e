"""Reconciliation: requests the state of runs and jobs that have been open without a delivery for long."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from processor.counting.fold import close
from processor.counting.jobs import JOBS
from processor.counting.known_job import Job, JobKey
from processor.counting.runs import RUNS, Run, RunKey
from processor.counting.states import StaleReason
from processor.counting.subjects import Subject
from processor.counting_log import CountingLog
from processor.recovery.access import RecoveryAccess
from processor.recovery.answers import job_news, listed_jobs, run_news
from processor.recovery.exclusive import check_lease
from processor.recovery.outages import OutageTolerance
from processor.recovery.redelivery import publish
from processor.recovery.requests import Request
from processor.store import recovery
from processor.store.recovery import Window
from shared.delivery import Delivery
from shared.errors import GitHubError, GitHubRefused, NotOnGitHub, PoisonError
from shared.logs import get_logger

RECONCILE_CHUNK = 200
"""Number of runs or jobs that are loaded from the store together."""

_ACTIONS = "the repository permission Actions: read (classic: repo)"
_METADATA = "the repository permission Metadata: read (classic: repo)"

_log = get_logger(__name__)

K = TypeVar("K", bound=tuple[Any, ...])
S = TypeVar("S", bound=msgspec.Struct)

_Object = Mapping[str, Any]
_Attempt = tuple[str, int, int]
"""Repository, run ID and attempt."""


@dataclass(slots=True)
class Corrections:
    """The result of a reconciliation: numbers of runs and jobs that were requested, corrected and deleted.

    `deleted` is by kind (run, job); `errors` has an error for each repository that the token may not read. `lines`
    describes each correction.
    """

    asked: int = 0
    corrected: int = 0
    deleted: Counter[str] = field(default_factory=Counter)
    errors: list[GitHubError] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


class Reconcile:
    """Requests each open run and job once."""

    def __init__(self, access: RecoveryAccess, *, after: timedelta, dry_run: bool = False) -> None:
        """`after` is the minimum time since the last delivery about a run or job.

        With `dry_run`, nothing is corrected or closed.
        """
        self._access = access
        self._after = after
        self._dry_run = dry_run
        self._outcome = Corrections()
        self._counting_log = CountingLog()
        self._repositories: dict[str, _Object | None] = {}
        self._shown: set[str] = set()
        self._outages = OutageTolerance()

    async def run(self) -> Corrections:
        """Reconcile all runs and jobs without a recent delivery.

        Raises `GitHubError`, `BrokerError`, `BusyError` or `StoreError`. What was done until then stays done, and is
        what the next time asks about last.
        """
        async with self._access.store.connection() as connection:
            began = await recovery.now(connection)
        quiet = int(self._after.total_seconds() * 1000)
        window = Window(self._access.asked().row_host, quiet, began, RECONCILE_CHUNK)
        while runs := await self._open(RUNS, window):
            for key, run in runs.items():
                check_lease(self._access.lease)
                with self._outages.tolerated(), self._outages.isolated(run_id=key.run_id, attempt=key.attempt):
                    await self._run(key, run)
        while jobs := await self._open(JOBS, window):
            for attempt, group in self._by_attempt(jobs).items():
                check_lease(self._access.lease)
                with self._outages.tolerated(), self._outages.isolated(run_id=attempt[1], attempt=attempt[2]):
                    await self._jobs(attempt, group)
        self._outages.raise_last()
        return self._outcome

    async def _run(self, key: RunKey, run: Run) -> None:
        # Saved before the request, so that a run for which GitHub fails is not the first one again next time.
        async with self._access.store.connection() as connection:
            await recovery.asked(connection, RUNS, [key])
        self._outcome.asked += 1
        name = self._access.asked().repository(run.names)
        repository = await self._repository(name)
        if repository is not None:
            try:
                answer = await self._access.github.get(_about(name, "run", f"runs/{key.run_id}/attempts/{key.attempt}"))
                what = f"run\t{name}\t{key.run_id}\tattempt {key.attempt}"
                await self._tell(run_news(key, run, answer, repository, self._access.asked()), what)
            except NotOnGitHub:
                await self._close(name, RUNS, key, run)
            except GitHubRefused as error:
                self._give_up(name, error)
            except PoisonError as error:
                _log.warning("GitHub's answer about a run is invalid", run_id=key.run_id, error=str(error))

    async def _jobs(self, attempt: _Attempt, jobs: Mapping[JobKey, Job]) -> None:
        async with self._access.store.connection() as connection:
            await recovery.asked(connection, JOBS, list(jobs))
        self._outcome.asked += len(jobs)
        repository = await self._repository(attempt[0])
        if repository is not None:
            try:
                listed = await self._listed(attempt) if len(jobs) > 1 else {}
                for key, job in jobs.items():
                    with self._outages.isolated(job_id=key.job_id):
                        await self._job(key, job, repository, listed.get(key.job_id))
            except GitHubRefused as error:
                self._give_up(attempt[0], error)

    async def _job(self, key: JobKey, job: Job, repository: _Object, listed: _Object | None) -> None:
        name = self._access.asked().repository(job.names)
        try:
            answer = listed or await self._access.github.get(_about(name, "job", f"jobs/{key.job_id}"))
            await self._tell(job_news(job, answer, repository, self._access.asked()), f"job\t{name}\t{key.job_id}")
        except NotOnGitHub:
            await self._close(name, JOBS, key, job)
        except PoisonError as error:
            _log.warning("GitHub's answer about a job is invalid", job_id=key.job_id, error=str(error))

    async def _listed(self, attempt: _Attempt) -> Mapping[int, _Object]:
        """Return the jobs of an attempt by ID, or none if GitHub has no list. Saves a request per job."""
        name, run_id, number = attempt
        jobs: dict[int, _Object] = {}
        path = f"runs/{run_id}/attempts/{number}/jobs?per_page=100"
        request: Request | None = _about(name, "attempt_jobs", path)
        while request is not None:
            try:
                page, more = await self._access.github.page(request)
            except NotOnGitHub:
                return {}
            jobs |= listed_jobs(page)
            request = None if more is None else Request(request.endpoint, more, request.scope, request.needs)
        return jobs

    async def _repository(self, name: str) -> _Object | None:
        """Return the REST API object of a repository, or None if the token may not read it.

        Without read access, a 404 for one of its runs would not mean that the run was deleted.
        """
        if name not in self._repositories:
            try:
                request = Request("repository", f"/repos/{name}", name, _METADATA, again=True)
                self._repositories[name] = await self._access.github.get(request)
            except GitHubRefused as error:
                self._give_up(name, error)
        return self._repositories[name]

    def _give_up(self, name: str, error: GitHubRefused) -> None:
        """Skip a repository for the rest of this reconciliation."""
        self._repositories[name] = None
        self._outcome.errors.append(error)

    async def _shows_runs(self, name: str) -> bool:
        """Return whether the token may list the repository's runs. Only then does a 404 mean that a run was deleted."""
        if name not in self._shown:
            try:
                await self._access.github.get(_about(name, "runs", "runs?per_page=1"))
                self._shown.add(name)
            except GitHubRefused as error:
                self._give_up(name, error)
        return name in self._shown

    async def _tell(self, deliveries: Sequence[Delivery], what: str) -> None:
        """Publish the news about a run or job; `what` describes it."""
        if not deliveries:
            return
        if not self._dry_run:
            for delivery in deliveries:
                await publish(self._access.publisher, delivery)
        self._outcome.corrected += 1
        self._outcome.lines.append(f"{what}\tcorrected")

    async def _close(self, name: str, subject: Subject[K, S], key: K, seen: S) -> None:
        """Close a run or job that was deleted on GitHub, unless a delivery has changed it meanwhile."""
        if not await self._shows_runs(name):
            return
        if not self._dry_run and not await self._close_row(subject, key, seen):
            return
        self._outcome.deleted[subject.name] += 1
        self._outcome.lines.append(f"{subject.name}\t{name}\t{key[1]}\tclosed as deleted")

    async def _close_row(self, subject: Subject[K, S], key: K, seen: S) -> bool:
        """Close a run or job, and return True, unless it is no longer as it was `seen`."""
        async with self._access.store.batch() as transaction:
            rows = await transaction.load_keys([(subject.name, key)])
            if rows.of(subject)[key].known != seen:
                return False
            tally = close(subject, [(key, StaleReason.DELETED)], rows)
            await transaction.write(rows, tally, news=False)
        self._counting_log.reports(tally.reports)
        return True

    async def _open(self, subject: Subject[K, S], window: Window) -> Mapping[K, S]:
        while True:
            async with self._access.store.connection() as connection:
                rows = await recovery.open_rows(connection, subject, window)
                if unreadable := [key for key, known in rows.items() if known is None]:
                    await recovery.asked(connection, subject, unreadable)  # so that the next query returns others
            readable = {key: known for key, known in rows.items() if known is not None}
            if readable or not rows:
                return readable

    def _by_attempt(self, jobs: Mapping[JobKey, Job]) -> Mapping[_Attempt, Mapping[JobKey, Job]]:
        groups: dict[_Attempt, dict[JobKey, Job]] = defaultdict(dict)
        for key, job in jobs.items():
            groups[self._access.asked().repository(job.names), job.run_id, job.attempt][key] = job
        return groups


def _about(repository: str, endpoint: str, path: str) -> Request:
    return Request(endpoint, f"/repos/{repository}/actions/{path}", repository, _ACTIONS, again=True)
