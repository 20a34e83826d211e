"""A store with many series, made through the store itself."""

import time

from processor.series import Tally
from processor.store import Store
from processor.store.engine import create_engine
from processor.store.migrate import migrate

LINES = 95
"""How many lines of a page one workflow makes."""

_WORKFLOWS_OF_A_REPOSITORY = 5
_AT_ONCE = 100


async def add_series(database_url: str, lines: int) -> None:
    """Migrate a database and let it have at least as many series as make so many lines of a page."""
    engine = create_engine(database_url, connections=1, application="bench")
    store = Store(engine, 10 * lines)
    workflows = range(lines // LINES + 1)
    try:
        await migrate(engine)
        for first in workflows[::_AT_ONCE]:
            tally = Tally()
            for number in workflows[first : first + _AT_ONCE]:
                tally.add(_workflow(number))
            async with store.batch(time.time_ns() // 1_000_000) as transaction:
                await transaction.add(tally)
    finally:
        await engine.dispose()


def _workflow(number: int) -> Tally:
    """Return what a workflow leaves: statuses of its runs and jobs, and their durations by conclusion."""
    tally = Tally()
    repository, workflow = f"acme/service-{number // _WORKFLOWS_OF_A_REPOSITORY:04}", f"workflow {number}"
    names = (repository, "main", workflow)
    for status, conclusion in (("queued", ""), ("in_progress", ""), ("completed", "success"), ("completed", "failure")):
        tally.count("promgithub_workflow_status", *names, status, conclusion, by=number + 1)
        tally.count("promgithub_job_status", *names, status, conclusion, by=number + 1)
    for conclusion in ("success", "failure"):
        for place in range(10):
            milliseconds = 1000 * 3**place
            tally.observe("promgithub_workflow_duration_seconds", *names, conclusion, milliseconds=milliseconds)
            tally.observe("promgithub_job_duration_seconds", *names, conclusion, milliseconds=milliseconds)
    tally.observe("promgithub_job_queue_seconds", repository, workflow, "Default", milliseconds=2000)
    return tally
