"""Creates a store with many series, through the code of the store."""

from processor.counting.catalogue import (
    JOB_DURATION,
    JOB_QUEUE,
    JOB_STATUS,
    WORKFLOW_DURATION,
    WORKFLOW_STATUS,
    JobConclusionLabels,
    JobQueueLabels,
    JobStatusLabels,
    WorkflowConclusionLabels,
    WorkflowStatusLabels,
)
from processor.counting.ci_metrics import Tally
from processor.counting.subjects import Rows
from processor.store import Store
from processor.store.engine import create_engine
from processor.store.migrating import migrate

LINES = 88
"""Number of lines of a page per workflow."""

_WORKFLOWS_OF_A_REPOSITORY = 5
_AT_ONCE = 100


async def add_series(database_url: str, lines: int) -> None:
    """Migrate a database and create enough series for at least `lines` lines of a page."""
    engine = create_engine(database_url, connections=1, application="bench")
    store = Store(engine, 10 * lines)
    workflows = range(lines // LINES + 1)
    try:
        await migrate(engine)
        for first in workflows[::_AT_ONCE]:
            tally = Tally()
            for number in workflows[first : first + _AT_ONCE]:
                tally.add(_workflow(number))
            async with store.batch() as transaction:
                await transaction.write(Rows(), tally)
    finally:
        await engine.dispose()


def _workflow(number: int) -> Tally:
    """Return the increments of a workflow: statuses of its runs and jobs, and their durations by conclusion."""
    tally = Tally()
    repository, workflow = f"acme/service-{number // _WORKFLOWS_OF_A_REPOSITORY:04}", f"workflow {number}"
    names = (repository, "main", workflow)
    for status, conclusion in (("queued", ""), ("in_progress", ""), ("completed", "success"), ("completed", "failure")):
        WORKFLOW_STATUS.inc(tally, WorkflowStatusLabels(*names, status, conclusion), by=number + 1)
        JOB_STATUS.inc(tally, JobStatusLabels(*names, status, conclusion), by=number + 1)
    for conclusion in ("success", "failure"):
        for place in range(10):
            milliseconds = 1000 * 3**place
            WORKFLOW_DURATION.observe(tally, WorkflowConclusionLabels(*names, conclusion), milliseconds=milliseconds)
            JOB_DURATION.observe(tally, JobConclusionLabels(*names, conclusion), milliseconds=milliseconds)
    JOB_QUEUE.observe(tally, _queue_labels(repository, workflow), milliseconds=2000)
    return tally


def _queue_labels(repository: str, workflow: str) -> JobQueueLabels:
    """Return labels of the queue time, without the optional one; those that do not matter here have one value."""
    shown = {"repository": repository, "workflow_name": workflow, "job_name": ""}
    return JobQueueLabels(**dict.fromkeys(JobQueueLabels._fields, "Default") | shown)
