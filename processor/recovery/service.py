"""Recovery as a whole: what the commands do once, and a processor with the lease does by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from processor import lease as leases
from processor.lease import Lease
from processor.metrics import WorkerMetrics
from processor.recovery.client import GitHub
from processor.recovery.hooks import parse_hook
from processor.recovery.metrics import RecoveryMetrics
from processor.recovery.reconcile import Corrections, Reconcile
from processor.recovery.redeliver import Outcome, Redeliver
from processor.recovery.turn import alone
from processor.series import BranchPolicy
from processor.store import Store
from processor.store.engine import describe, is_failure
from shared.broker import Publisher
from shared.errors import GitHubError, PromgithubError, SettingsError
from shared.logs import get_logger
from shared.settings import PREFIX, ProcessorSettings, split_list
from shared.waiting import is_set_within, unless

REDELIVER_INTERVAL = 300.0
"""Seconds between looks for failed deliveries."""

RECONCILE_INTERVAL = 600.0
"""Seconds between looks for what seems stuck."""

LEADER_INTERVAL = 2.0
"""Seconds between looks whether this processor is to do it."""

_log = get_logger(__name__)


def check_configured(settings: ProcessorSettings) -> None:
    """Raise `SettingsError` if there is nothing to ask GitHub as."""
    if not configured(settings):
        raise SettingsError(
            f"{PREFIX}GITHUB_TOKEN: not set; takes a token, or {PREFIX}GITHUB_APP_ID and {PREFIX}GITHUB_APP_KEY_FILE"
        )


def configured(settings: ProcessorSettings) -> bool:
    """Return whether there is anything to ask GitHub as."""
    return bool(settings.github_token or settings.github_app_id)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What recovery works with; `holder` names this process, differently from every other."""

    settings: ProcessorSettings
    store: Store
    publisher: Publisher
    holder: str


class Recovery:
    """Recovers, at most one of each kind at a time over all processes."""

    def __init__(self, surroundings: Surroundings, github: GitHub) -> None:
        """`github` is entered already."""
        self._settings = surroundings.settings
        self._store = surroundings.store
        self._publisher = surroundings.publisher
        self._holder = surroundings.holder
        self._github = github
        self._hooks = [parse_hook(hook) for hook in split_list(self._settings.github_hooks)]

    async def redeliver(self, *, dry_run: bool = False, via_github: bool = False) -> list[Outcome]:
        """Recover failed deliveries; see `Redeliver`. Raises `PromgithubError`, or what `is_failure` recognises."""
        lease = Lease(self._store, self._holder, name=leases.REDELIVER)
        work = Redeliver(self._github, self._store, self._publisher, lease, dry_run=dry_run, via_github=via_github)
        return await alone(self._store, lease, partial(work.run, self._hooks))

    async def reconcile(self) -> Corrections:
        """Ask about what looks stuck; see `Reconcile`. Raises `PromgithubError`, or what `is_failure` recognises."""
        lease = Lease(self._store, self._holder, name=leases.RECONCILE)
        work = Reconcile(
            self._github,
            self._store,
            self._publisher,
            lease,
            branches=BranchPolicy(self._settings.branches),
            after=self._settings.reconcile_after,
        )
        return await alone(self._store, lease, work.run)


class RecoveryService:
    """Recovers again and again while this processor holds the lease of the exporter."""

    def __init__(self, surroundings: Surroundings, leader: Lease, metrics: WorkerMetrics) -> None:
        """`leader` is the exporter's lease."""
        self._surroundings = surroundings
        self._leader = leader
        self._worker_metrics = metrics
        self._metrics = RecoveryMetrics(metrics.registry)

    async def keep(self, stop: asyncio.Event) -> None:
        """Recover at the intervals until `stop` is set; do nothing if there is nothing to ask GitHub as."""
        settings = self._surroundings.settings
        if not configured(settings):
            return
        async with GitHub(settings, self._metrics) as github, asyncio.TaskGroup() as tasks:
            recovery = Recovery(self._surroundings, github)
            if settings.github_hooks:
                self._metrics.expect("redeliver")
                tasks.create_task(self._every(REDELIVER_INTERVAL, partial(self._redeliver, recovery), stop))
            self._metrics.expect("reconcile")
            tasks.create_task(self._every(RECONCILE_INTERVAL, partial(self._reconcile, recovery), stop))

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

    async def _every(self, interval: float, task: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        while not stop.is_set():
            leads = self._leader.held
            if leads:
                await unless(stop, self._attempt(task))
            await is_set_within(stop, interval if leads else LEADER_INTERVAL)

    async def _attempt(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except PromgithubError as error:
            _log.warning("recovery has not come to its end; it goes on later", error=str(error))
        except Exception as error:
            if not is_failure(error):
                raise
            _log.warning("recovery has not come to its end; it goes on later", error=describe(error))


def _raise_first(errors: "list[GitHubError | None] | list[GitHubError]") -> None:
    for error in errors:
        if error is not None:
            raise error
