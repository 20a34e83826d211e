"""The entry points of recovery. The commands run it once; the processor with the lease runs it periodically."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from processor.chores import Chore, Supervisor
from processor.counting.ci_metrics import Catalogue
from processor.counting.events import Policy
from processor.metrics import WorkerMetrics
from processor.recovery.access import RecoveryAccess
from processor.recovery.backfill import Backfilled, ReadPast
from processor.recovery.client import GitHub, configured
from processor.recovery.exclusive import run_exclusively
from processor.recovery.hooks import parse_hook
from processor.recovery.past_file import write_past_file
from processor.recovery.reconciliation import Corrections, Reconcile
from processor.recovery.recovery_metrics import RecoveryMetrics
from processor.recovery.redelivery import HookOutcome, Redelivery
from processor.recovery.repositories import repositories_of
from processor.recovery.runner_lists import parse_runner_lists
from processor.recovery.runners import AskRunners, RunnerGauge
from processor.store import Store
from processor.store.lease import BACKFILL, RECONCILE, REDELIVER, Lease
from shared.brokers.interface import Publisher
from shared.errors import GitHubError
from shared.hosts import enterprise_host
from shared.logs import get_logger
from shared.settings import ProcessorSettings, split_list

REDELIVER_INTERVAL = 300.0
"""How often failed deliveries are recovered, in seconds."""

RECONCILE_INTERVAL = 600.0
"""How often open runs and jobs are reconciled, in seconds."""

RUNNERS_INTERVAL = 60.0
"""How often GitHub is asked for the runners, in seconds."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RecoveryContext:
    """The dependencies of recovery; `holder` is the unique name of this process."""

    settings: ProcessorSettings
    policy: Policy
    store: Store
    publisher: Publisher
    holder: str


@dataclass(frozen=True, slots=True)
class PastFile:
    """The file of a backfill: its path, the metrics in it, and the maximum number of series of each."""

    path: Path
    catalogue: Catalogue
    max_series: int


class Recovery:
    """Runs recoveries. Over all processes, at most one recovery of each kind runs at a time."""

    def __init__(self, context: RecoveryContext, github: GitHub) -> None:
        """`github` must already be entered."""
        self._context = context
        self._github = github
        self._hooks = [parse_hook(hook) for hook in split_list(context.settings.github_hooks)]

    async def redeliver(self, *, dry_run: bool = False, via_github: bool = False) -> list[HookOutcome]:
        """Recover failed deliveries; see `Redelivery`. Raises `PromgithubError`."""
        access = self._access(REDELIVER)
        work = Redelivery(access, dry_run=dry_run, via_github=via_github)
        return await run_exclusively(access.store, access.lease, partial(work.run, self._hooks))

    async def backfill(
        self,
        repositories: Sequence[str],
        since: timedelta,
        file: PastFile,
        progress: Callable[[Backfilled], None],
    ) -> tuple[Backfilled, int]:
        """Read the past of repositories, or of those of the hooks, and write the file; see `ReadPast`.

        Returns the numbers, and the time of the last samples in the file (Unix ms). Raises `PromgithubError`.
        """
        access = self._access(BACKFILL)
        reading = ReadPast(access)

        async def work() -> tuple[Backfilled, int]:
            names = repositories or await repositories_of(access.github, self._hooks)
            backfill, read = await reading.run(names, since, progress)
            end = await write_past_file(access.store, backfill, file.catalogue, file.max_series, file.path)
            return read, end

        return await run_exclusively(access.store, access.lease, work)

    async def reconcile(self, *, dry_run: bool = False) -> Corrections:
        """Ask about what looks stuck; see `Reconcile`. Raises `PromgithubError`."""
        access = self._access(RECONCILE)
        work = Reconcile(access, after=self._context.settings.reconcile_after, dry_run=dry_run)
        return await run_exclusively(access.store, access.lease, work.run)

    def _access(self, lease: str) -> RecoveryAccess:
        context = self._context
        return RecoveryAccess(
            self._github,
            context.store,
            context.publisher,
            Lease(context.store, context.holder, name=lease),
            host=enterprise_host(context.settings.github_api_url.get_secret_value()),
            policy=context.policy,
        )


class RecoveryService:
    """Runs recoveries, and asks for the runners, periodically while this processor holds the exporter's lease."""

    def __init__(self, context: RecoveryContext, leader: Lease, metrics: WorkerMetrics, runners: RunnerGauge) -> None:
        """`leader` is the exporter's lease; `runners` is updated as long as it is held."""
        self._context = context
        self._leader = leader
        self._runners = runners
        self._supervisor = Supervisor(leader, metrics, context.store.outage)
        self._worker_metrics = metrics
        self._metrics = RecoveryMetrics(metrics.registry)

    async def keep(self, stop: asyncio.Event) -> None:
        """Run the chores at their intervals until `stop` is set. Does nothing without a token or an App."""
        settings = self._context.settings
        if not configured(settings):
            return
        async with GitHub(settings, self._metrics) as github, asyncio.TaskGroup() as tasks:
            recovery = Recovery(self._context, github)
            chores = [Chore("reconcile", RECONCILE_INTERVAL, partial(self._reconcile, recovery))]
            if settings.github_hooks:
                chores.append(Chore("redeliver", REDELIVER_INTERVAL, partial(self._redeliver, recovery)))
            for chore in chores:
                self._metrics.expect(chore.name)
            if settings.github_runners:
                chores.append(self._runners_chore(github))
            for chore in chores:
                tasks.create_task(self._supervisor.keep(chore, stop))

    def _runners_chore(self, github: GitHub) -> Chore:
        settings, classes = self._context.settings, self._context.policy.runners
        lists = parse_runner_lists(split_list(settings.github_runners))
        ask = AskRunners(github, lists, classes, self._leader, settings.max_series)
        return Chore("runners", RUNNERS_INTERVAL, partial(self._runners.update, ask))

    async def _redeliver(self, recovery: Recovery) -> None:
        outcomes = await recovery.redeliver()
        for outcome in outcomes:
            if outcome.missing:
                _log.info("recovered", hook=outcome.hook, missing=len(outcome.missing), recovered=outcome.recovered)
        _raise_first([outcome.error for outcome in outcomes])
        self._metrics.success("redeliver")

    async def _reconcile(self, recovery: Recovery) -> None:
        corrections = await recovery.reconcile()
        for kind, count in corrections.deleted.items():
            self._worker_metrics.corrected.labels(kind, "deleted").inc(count)
        if corrections.corrected:
            _log.info("reconciled", asked=corrections.asked, corrected=corrections.corrected)
        _raise_first(corrections.errors)
        self._metrics.success("reconcile")


def _raise_first(errors: "list[GitHubError | None] | list[GitHubError]") -> None:
    for error in errors:
        if error is not None:
            raise error
