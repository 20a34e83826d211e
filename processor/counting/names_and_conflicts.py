"""Code common to runs and jobs: their labels, and the conflicts between their deliveries. Pure."""

from typing import Any

from processor.counting.catalogue import ANOMALIES, KindLabels, WorkflowLabels
from processor.counting.ci_metrics import Tally
from processor.counting.flags import CONFLICT_FLAGS
from processor.counting.label_values import OTHER_BRANCH, UNKNOWN
from processor.counting.states import Names
from processor.counting.subjects import Row


def workflow_labels(names: Names, *, fork: bool = False) -> WorkflowLabels:
    """Return the newest names as labels. The branches of a fork have no name of their own."""
    return WorkflowLabels(
        names.repository.value,
        names.branch.value if names.branch and not fork else OTHER_BRANCH,
        names.workflow_name.value if names.workflow_name else UNKNOWN,
    )


def count_conflicts(row: Row[Any], found: int, tally: Tally) -> None:
    """Count each kind of conflict once per row; `found` has the bits of `Conflict`."""
    if not found:
        return
    for conflict, (flag, kind) in CONFLICT_FLAGS.items():
        if found & conflict and row.first(flag):
            ANOMALIES.inc(tally, KindLabels(kind))
