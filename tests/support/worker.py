"""A processor without broker and HTTP: batches go directly into a pipeline on a real database."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from processor.counting.events import Policy
from processor.counting.label_values import BranchPolicy
from processor.counting.runner_classes import RunnerClasses
from processor.counting.snapshot import Snapshot
from processor.housekeeping import Housekeeping
from processor.metrics import WorkerMetrics
from processor.pipeline import Pipeline
from processor.scrape import Page
from processor.store import Store, lease
from processor.store.engine import create_engine
from processor.store.lease import Lease
from processor.store.migrating import migrate
from processor.store.tables import metadata
from shared.admin import exposition
from shared.delivery import Delivery
from tests.support import figures
from tests.support.figures import Figures

HOLDER = "test"

HOME = "github.com"


@dataclass
class ListBatch:
    """A batch that records acks and dead letters."""

    deliveries: Sequence[Delivery]
    acked: bool = False
    dead: list[tuple[Delivery, str]] = field(default_factory=list)

    async def ack(self) -> None:
        self.acked = True

    async def dead_letter(self, delivery: Delivery, reason: str, detail: str) -> None:
        assert not self.acked
        self.dead.append((delivery, reason))


class Holder(Lease):
    """A lease that a test holds or loses at will."""

    mine = True

    @property
    def held(self) -> bool:
        """Whether the test lets it be held."""
        return self.mine


class Worker:
    """A store with pipelines on it; `now` (Unix seconds) may be moved."""

    def __init__(self, engine: AsyncEngine, max_series: int, branches: str, home: str, hold: bool) -> None:
        self.engine = engine
        self.store = Store(engine, max_series, hold=hold)
        self.max_series = max_series
        self.metrics = WorkerMetrics()
        self.stop = asyncio.Event()
        self.now = time.time()
        self.pipeline = Pipeline(
            self.store, Policy(BranchPolicy(branches), home, RunnerClasses()), self.metrics, self.stop, lambda: self.now
        )

    def chores(self, **settings: Any) -> Housekeeping:
        """Return housekeeping that holds the lease, with the settings' defaults for what is not given."""
        given = {"grace": timedelta(minutes=10), "delivery_ttl": timedelta(days=8), "series_ttl": timedelta(days=30)}
        return Housekeeping(self.store, Holder(self.store, "test"), self.metrics, **given | settings)

    async def count(self, deliveries: Iterable[Delivery]) -> ListBatch:
        """Process deliveries as one batch."""
        batch = ListBatch(list(deliveries))
        async with asyncio.timeout(60):
            await self.pipeline.process(batch)
        assert batch.acked
        return batch

    async def figures(self, *, ages: bool = False, to_scraper: bool = False) -> Figures:
        """Return what a processor with the lease would expose about CI, to a scraper or to others."""
        return figures.of_ci(figures.of_text(await self.page(to_scraper=to_scraper)), ages=ages)

    async def page(self, *, to_scraper: bool = False, openmetrics: bool = False) -> str:
        """Return the text of what a processor with the lease would expose about CI, to a scraper or to others."""
        families = Page([], await self.snapshot(exemplars=openmetrics), self.max_series)
        return exposition.page(families, openmetrics=openmetrics, to_scraper=to_scraper).decode()

    async def snapshot(self, *, exemplars: bool = False) -> Snapshot:
        """Return what a processor with the lease would read, for a page with or without exemplars."""
        async with self.store.connection() as connection:
            assert await lease.acquire(connection, lease.NAME, HOLDER, 60_000)
        snapshot = await self.store.snapshot(lease.NAME, HOLDER, exemplars=exemplars)
        assert snapshot is not None
        return snapshot

    async def age(self, seconds: float) -> None:
        """Make all rows older by a number of seconds, as if the database's clock had advanced."""
        async with self.engine.begin() as connection:
            for table in metadata.sorted_tables:
                aged = [c.name for c in table.columns if c.name.endswith("_at") or c.name == "since"]
                if aged and table.name not in {"leases", "cursors"}:
                    assignments = ", ".join(f"{name} = {name} - {int(seconds * 1000)}" for name in aged)
                    await connection.execute(text(f"UPDATE {table.name} SET {assignments}"))  # noqa: S608

    async def clear(self) -> None:
        """Empty every table but `locks`."""
        self.store.recent.clear()
        async with self.engine.begin() as connection:
            for table in metadata.sorted_tables:
                if table.name != "locks":
                    await connection.execute(text(f"DELETE FROM {table.name}"))  # noqa: S608 - our own names


@asynccontextmanager
async def worker(
    url: str,
    *,
    max_series: int = 10_000,
    branches: str = "<default>|main",
    home: str = HOME,
    hold: bool = True,
) -> AsyncIterator[Worker]:
    """Migrate a database and yield a worker on it.

    `home` is the host whose repositories have no prefix; `hold` is True if new series start held.
    """
    engine = create_engine(url, connections=10, application="promgithub-test")
    try:
        await migrate(engine)
        yield Worker(engine, max_series, branches, home, hold)
    finally:
        await engine.dispose()
