"""Every subject, in the order in which its rows are locked."""

from typing import Any

from processor.counting.executions import EXECUTIONS
from processor.counting.flaky_jobs import FLAKY_JOBS
from processor.counting.jobs import JOBS
from processor.counting.runs import RUNS
from processor.counting.subjects import Subject

SUBJECTS: tuple[Subject[Any, Any], ...] = (RUNS, JOBS, EXECUTIONS, FLAKY_JOBS)
"""A subject may use rows only of the subjects after it."""
