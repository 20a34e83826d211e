"""The processor as a process: its parts, its start and its stop."""

import asyncio
import os
import socket
import uuid
from collections.abc import Mapping

from processor.housekeeping import Housekeeping
from processor.metrics import WorkerMetrics
from processor.pipeline import FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE, Pipeline
from processor.policy import exposed_catalogue, policy_of
from processor.recovery.runners import RunnerGauge
from processor.recovery.service import RecoveryContext, RecoveryService
from processor.scrape import Page, Scrape
from processor.status.reading import StatusReader
from processor.status.routes import status_routes
from processor.status.service import StatusService
from processor.store import Store
from processor.store.engine import create_engine
from processor.store.lease import Lease
from processor.store.migrating import migrate
from shared.admin.health import Check
from shared.admin.server import AdminServer, Routes, standard_routes
from shared.brokers.interface import Broker, Consumer
from shared.errors import BrokerUnavailable, StoreError, StoreUnavailable, StoreUnusable
from shared.logs import get_logger
from shared.process import Start, serve, settle
from shared.settings import ProcessorSettings
from shared.waiting import is_set_within, pauses, unless

DRAIN_TIMEOUT = 20.0
"""Seconds that batches may take to finish after SIGTERM. The whole shutdown takes less than 25 s."""

OTHER_CONNECTIONS = 7
"""Database connections in addition to one per worker: for the lease, scrapes, housekeeping and recovery."""

_log = get_logger(__name__)


def own_name() -> str:
    """Return a unique name of this process, for the leases."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


class Processor:
    """A processor process."""

    def __init__(
        self,
        settings: ProcessorSettings,
        broker: Broker,
        holder: str | None = None,
        receiver: str = "http://RECEIVER:8080",
    ) -> None:
        """Raises `SettingsError`.

        `run` starts and closes `broker`. `holder` is this process's name in the lease, by default `own_name`.
        `receiver` is the URL of the receiver's public port.
        """
        self._settings = settings
        self._broker = broker
        self._policy = policy_of(settings)
        self._catalogue = exposed_catalogue(settings)
        self._migrated = False
        self._migrating = ""
        self._engine = create_engine(
            settings.database_url.get_secret_value(),
            connections=settings.event_workers + OTHER_CONNECTIONS,
            application="promgithub-processor",
        )
        self._store = Store(self._engine, settings.max_series, hold=settings.new_series_seconds > 0)
        self._metrics = WorkerMetrics()
        holder = holder or own_name()
        self._lease = Lease(self._store, holder)
        runners = RunnerGauge()
        self._recovery = RecoveryService(
            RecoveryContext(settings, self._policy, self._store, broker, holder), self._lease, self._metrics, runners
        )
        self._scrape = Scrape(
            self._store,
            self._lease,
            broker,
            self._metrics,
            runners,
            max_series=settings.max_series,
            catalogue=self._catalogue,
        )
        self.checks: Mapping[str, Check] = {"broker": self._check_broker, "database": self._check_database}
        self.status = StatusService(
            StatusReader(self._store, self._catalogue), self._scrape.own_page, lambda: self._lease.held
        )
        self.routes: Routes = status_routes(self.status, receiver) if settings.status_page else {}
        """Pages on the admin port beside the standard ones, also in standalone."""

    async def run(self, stop: asyncio.Event) -> None:
        """Run as a separate process until `stop` is set. Raises `PromgithubError` if it cannot start."""
        settings = self._settings
        routes = standard_routes(self.gather, self.checks, stop) | self.routes
        admin = AdminServer(settings.admin_host, settings.admin_port, routes)
        await serve(admin, self._broker, stop, Start(self.checks, self.say_started), self.work)

    def say_started(self) -> None:
        """Log that the processor is ready, and the address of its metrics."""
        _log.info(
            "processor started",
            metrics=f"http://{self._settings.admin_host}:{self._settings.admin_port}/metrics",
            workers=self._settings.event_workers,
        )

    async def gather(self, *, openmetrics: bool) -> Page:
        """Return the metrics of the processor, and those of the store if it holds the lease."""
        return await self._scrape.page(exemplars=openmetrics)

    async def work(self, stop: asyncio.Event) -> None:
        """Count deliveries until `stop` is set, then finish the current batches.

        The database need not be reachable at the start. Raises `StoreError` if the database cannot be used.
        """
        try:
            if await self._migrate(stop):
                await self._count(stop)
        finally:
            await self._store.close()
        _log.info("processor stopped")

    async def _migrate(self, stop: asyncio.Event) -> bool:
        """Migrate the database as soon as it is reachable; return False if `stop` was set first.

        Raises `StoreError` if an operator must act first.
        """
        waits = pauses(FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE)
        while not stop.is_set():
            try:
                before, after = await migrate(self._engine)
            except StoreUnusable as error:
                raise StoreError(f"the database cannot be used: {error}; check PROMGITHUB_DATABASE_URL") from error
            except StoreUnavailable as error:
                self._migrating = _named(error)
                self._store.outage.notice(str(error))
                await is_set_within(stop, next(waits))
            else:
                self._store.outage.end()
                if before != after:
                    _log.info("migrated the database", before=before, after=after)
                self._migrated = True
                settle()  # the migration has loaded large modules
                return True
        return False

    async def _count(self, stop: asyncio.Event) -> None:
        settings = self._settings
        pipeline = Pipeline(self._store, self._policy, self._metrics, stop)
        chores = Housekeeping(
            self._store,
            self._lease,
            self._metrics,
            grace=settings.grace,
            delivery_ttl=settings.delivery_ttl,
            series_ttl=settings.series_ttl,
            catalogue=self._catalogue,
            new_series_seconds=settings.new_series_seconds,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lease.keep(stop))
            tasks.create_task(chores.keep(stop))
            tasks.create_task(self._recovery.keep(stop))
            for _ in range(self._settings.event_workers):
                tasks.create_task(self._worker(pipeline, stop))

    async def _worker(self, pipeline: Pipeline, stop: asyncio.Event) -> None:
        """Take and count batches until `stop` is set. Release them during a long outage of the database."""
        # Each worker has its own consumer, so that an ack does not cover the batches of another worker.
        prefetch = max(1, self._settings.prefetch // self._settings.event_workers)
        while (consumer := await unless(stop, self._broker.consume(prefetch))) is not None:
            if await self._work(pipeline, consumer, stop):
                return
            await consumer.release()
            await self._database_back(stop)

    async def _work(self, pipeline: Pipeline, consumer: Consumer, stop: asyncio.Event) -> bool:
        """Run `Pipeline.work` and return its result, within a bounded time after `stop` is set."""
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
                _log.warning("a batch did not finish in time; its deliveries return to the queue")
                work.cancel()
        return True

    async def _database_back(self, stop: asyncio.Event) -> None:
        """Wait until the lease task reports that the database accepts writes, or until `stop` is set."""
        for pause in pauses(FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE):
            if await is_set_within(stop, pause) or self._lease.database_up:
                return

    async def _check_broker(self) -> None:
        if not self._broker.available:
            raise BrokerUnavailable(self._broker.trouble)

    async def _check_database(self) -> None:
        if not self._migrated:
            raise StoreError(self._migrating or "the schema is not migrated yet")
        try:
            await self._store.ping()
            if self._lease.trouble is not None:
                raise self._lease.trouble
        except StoreUnavailable as error:
            raise StoreError(_named(error)) from error


def _named(error: StoreUnavailable) -> str:
    """Return the cause of an error and its text. The cause `other` says nothing that the text does not say."""
    return str(error) if error.cause == "other" else f"{error.cause}: {error}"
