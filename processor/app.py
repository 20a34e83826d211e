"""The worker as a process: what it is made of, how it starts and how it stops."""

import asyncio
import os
import socket
import uuid
from collections.abc import Mapping

from processor.housekeeping import Housekeeping
from processor.lease import Lease
from processor.metrics import WorkerMetrics
from processor.pipeline import FIRST_PAUSE, LONGEST_PAUSE, Pipeline
from processor.recovery.service import RecoveryService, Surroundings
from processor.scrape import Page, Scrape
from processor.series import BranchPolicy
from processor.store import Store
from processor.store.engine import create_engine, describe, is_failure
from processor.store.migrate import migrate
from shared.admin import AdminServer, Check
from shared.broker import Broker, Consumer
from shared.errors import BrokerUnavailable, StoreError
from shared.logs import get_logger
from shared.process import serve, settle
from shared.settings import ProcessorSettings
from shared.waiting import is_set_within, pauses, unless

DRAIN_TIMEOUT = 20.0
"""Seconds that the batches in work have to finish after SIGTERM; with the rest of the shutdown it stays below 25."""

OTHER_CONNECTIONS = 7
"""Connections beside those of the workers: the lease's, the scrape's, the chores', and recovery's two with theirs."""

_log = get_logger(__name__)


def own_name() -> str:
    """Return a name for this process in the leases, which no other has."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


class Processor:
    """Everything of one processor."""

    def __init__(self, settings: ProcessorSettings, broker: Broker, holder: str | None = None) -> None:
        """`broker` is started and closed by `run`; `holder` names this process in the lease, by default uniquely."""
        self._settings = settings
        self._broker = broker
        self._migrated = False
        self._engine = create_engine(
            settings.database_url.get_secret_value(),
            connections=settings.event_workers + OTHER_CONNECTIONS,
            application="promgithub-processor",
        )
        self._store = Store(self._engine, settings.max_series)
        self._metrics = WorkerMetrics()
        holder = holder or own_name()
        self._lease = Lease(self._store, holder)
        self._recovery = RecoveryService(
            Surroundings(settings, self._store, broker, holder), self._lease, self._metrics
        )
        self._scrape = Scrape(self._store, self._lease, broker, self._metrics, settings.max_series)
        self.checks: Mapping[str, Check] = {"broker": self._check_broker, "database": self._check_database}

    async def run(self, stop: asyncio.Event) -> None:
        """Be a process of its own until `stop` is set. Raises `PromgithubError` if it cannot start."""
        settings = self._settings
        admin = AdminServer(settings.admin_host, settings.admin_port, self.gather, self.checks)
        await serve(admin, self._broker, stop, self.work)

    async def gather(self) -> Page:
        """Return the metrics of the processor, and those of the store if it holds the lease."""
        return await self._scrape.page()

    async def work(self, stop: asyncio.Event) -> None:
        """Count deliveries until `stop` is set, then finish what is held. The database need not be there yet.

        Raises `StoreError` if the database cannot be used as it is.
        """
        _log.info(
            "processor started",
            metrics=f"http://{self._settings.admin_host}:{self._settings.admin_port}/metrics",
            workers=self._settings.event_workers,
        )
        try:
            if await self._migrate(stop):
                await self._count(stop)
        finally:
            await self._store.close()
        _log.info("processor stopped")

    async def _migrate(self, stop: asyncio.Event) -> bool:
        """Migrate as soon as the database is there; return False if it is time to stop instead."""
        waits = pauses(FIRST_PAUSE, LONGEST_PAUSE)
        while not stop.is_set():
            try:
                before, after = await migrate(self._engine)
            except Exception as error:
                if not is_failure(error):
                    raise
                pause = next(waits)
                _log.warning("waiting for the database", error=describe(error), pause_seconds=round(pause, 1))
                await is_set_within(stop, pause)
            else:
                if before != after:
                    _log.info("migrated the database", before=before, after=after)
                self._migrated = True
                settle()  # what migrates is large, and loaded only here
                return True
        return False

    async def _count(self, stop: asyncio.Event) -> None:
        pipeline = Pipeline(self._store, BranchPolicy(self._settings.branches), self._metrics, stop)
        chores = Housekeeping(self._store, self._lease, self._settings.delivery_ttl, self._settings.series_ttl)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lease.keep(stop))
            tasks.create_task(chores.keep(stop))
            tasks.create_task(self._recovery.keep(stop))
            for _ in range(self._settings.event_workers):
                tasks.create_task(self._worker(pipeline, stop))

    async def _worker(self, pipeline: Pipeline, stop: asyncio.Event) -> None:
        """Take and count batches until `stop` is set, but hold none while the database is away for long."""
        # A consumer of its own for each worker: acknowledging a batch must not acknowledge another's.
        prefetch = max(1, self._settings.prefetch // self._settings.event_workers)
        while (consumer := await unless(stop, self._broker.consume(prefetch))) is not None:
            if await self._work(pipeline, consumer, stop):
                return
            await consumer.release()
            await self._database_back(stop)

    async def _work(self, pipeline: Pipeline, consumer: Consumer, stop: asyncio.Event) -> bool:
        """Return what `Pipeline.work` does, within a bounded time after `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            linger = self._settings.batch_linger_ms / 1000
            work = tasks.create_task(pipeline.work(consumer, self._settings.batch_size, linger))
            stopping = tasks.create_task(stop.wait())
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                stopping.cancel()
                return await work
            await consumer.stop()
            _, unfinished = await asyncio.wait({work}, timeout=DRAIN_TIMEOUT)
            if unfinished:
                _log.warning("a batch took too long to stop; its deliveries go back to the queue")
                work.cancel()
        return True

    async def _database_back(self, stop: asyncio.Event) -> None:
        """Wait until the database takes what is written, as the lease tries to all the time, or `stop` is set."""
        for pause in pauses(FIRST_PAUSE, LONGEST_PAUSE):
            if await is_set_within(stop, pause) or self._lease.database_up:
                return

    async def _check_broker(self) -> None:
        if not self._broker.available:
            raise BrokerUnavailable("no connection, or blocked by an alarm")

    async def _check_database(self) -> None:
        if not self._migrated:
            raise StoreError("not migrated yet")
        await self._store.ping()
