"""The worker without its broker and HTTP: batches go straight into a pipeline on a real database."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from processor import lease
from processor.metrics import WorkerMetrics
from processor.pipeline import Pipeline
from processor.scrape import Page
from processor.series import BranchPolicy
from processor.store import Store, leases
from processor.store.engine import create_engine
from processor.store.migrate import migrate
from processor.store.snapshot import Snapshot
from processor.store.tables import metadata
from shared import exposition
from shared.delivery import Delivery
from tests import figures
from tests.figures import Figures

HOLDER = "test"


@dataclass
class ListBatch:
    """A batch that remembers what became of it."""

    deliveries: Sequence[Delivery]
    acked: bool = False
    dead: list[tuple[Delivery, str]] = field(default_factory=list)

    async def ack(self) -> None:
        """Note the acknowledgement."""
        self.acked = True

    async def dead_letter(self, delivery: Delivery, reason: str, detail: str) -> None:
        """Note the dead letter."""
        assert not self.acked
        self.dead.append((delivery, reason))


class Worker:
    """A store with pipelines on it; `now` (Unix seconds) may be moved."""

    def __init__(self, engine: AsyncEngine, max_series: int, branches: str) -> None:
        self.engine = engine
        self.store = Store(engine, max_series)
        self.max_series = max_series
        self.metrics = WorkerMetrics()
        self.stop = asyncio.Event()
        self.now = time.time()
        self.pipeline = Pipeline(self.store, BranchPolicy(branches), self.metrics, self.stop, lambda: self.now)

    async def count(self, deliveries: Iterable[Delivery]) -> ListBatch:
        """Process deliveries as one batch."""
        batch = ListBatch(list(deliveries))
        async with asyncio.timeout(60):
            await self.pipeline.process(batch)
        assert batch.acked
        return batch

    async def figures(self, *, ages: bool = False) -> Figures:
        """Return what a processor with the lease would expose about CI."""
        return figures.of_ci(figures.of_text(await self.page()), ages=ages)

    async def page(self) -> str:
        """Return the text of what a processor with the lease would expose about CI."""
        return exposition.page(Page([], await self.snapshot(), self.max_series), openmetrics=False).decode()

    async def snapshot(self) -> Snapshot:
        """Return what a processor with the lease would read."""
        async with self.store.connection() as connection:
            assert await leases.acquire(connection, lease.NAME, HOLDER, 60_000)
        snapshot = await self.store.snapshot(lease.NAME, HOLDER)
        assert snapshot is not None
        return snapshot

    async def clear(self) -> None:
        """Empty every table but `locks`."""
        async with self.engine.begin() as connection:
            for table in metadata.sorted_tables:
                if table.name != "locks":
                    await connection.execute(text(f"DELETE FROM {table.name}"))  # noqa: S608 - our own names


@asynccontextmanager
async def worker(url: str, *, max_series: int = 10_000, branches: str = "<default>|main") -> AsyncIterator[Worker]:
    """Migrate a database and yield a worker on it."""
    engine = create_engine(url, connections=10, application="promgithub-test")
    try:
        await migrate(engine)
        yield Worker(engine, max_series, branches)
    finally:
        await engine.dispose()
