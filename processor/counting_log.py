"""The log lines about what was counted: anomalies, stale closings, and the first delivery of each repository.

They name repository, run and job, and nothing else of a payload.
"""

from collections.abc import Iterable
from typing import Any

from processor.counting.ci_metrics import Report, Tally
from processor.counting.subjects import Fact
from shared.delivery import Delivery
from shared.log_limits import FloodLimit
from shared.logs import get_logger

LINES = 20
"""Maximum number of lines of each kind in `SECONDS`. The others are logged at level debug."""

SECONDS = 60.0
"""The interval of `LINES`, in seconds."""

MAX_REPOSITORIES = 10_000
"""Maximum number of repositories that a process remembers. Further ones are not logged."""

_EVENTS = {"promgithub_anomaly": "anomaly", "promgithub_stale": "closed as stale"}

_log = get_logger(__name__)


class CountingLog:
    """Logs what was counted, within limits."""

    def __init__(self) -> None:
        self._limit = FloodLimit(LINES, SECONDS)
        self._repositories: set[str] = set()

    def reports(self, reports: Iterable[Report]) -> None:
        """Log the increments of reported counters. Call it after the commit."""
        for report in reports:
            limited_as = (report.metric, *report.labels.values())
            self._info(_EVENTS[report.metric], limited_as, **report.labels, **report.about)

    def counted(self, delivery: Delivery, meaning: Fact | Tally | None) -> None:
        """Log a counted delivery if it is the first one of its repository since the start of the process."""
        repository = None if meaning is None else repository_of(meaning)
        if repository is None or repository in self._repositories or len(self._repositories) >= MAX_REPOSITORIES:
            return
        self._repositories.add(repository)
        event = "first delivery of a repository since the start"
        self._info(event, event, repository=repository, event_type=delivery.event, delivery_id=delivery.id)

    def _info(self, event: str, limited_as: Any, **details: Any) -> None:
        suppressed = self._limit.admit(limited_as)
        if suppressed is None:
            _log.debug(event, **details)
        else:
            _log.info(event, **details, **({"suppressed": suppressed} if suppressed else {}))


def repository_of(meaning: Fact | Tally) -> str | None:
    """Return the repository that a fact or a tally names, as in the label `repository`, or None."""
    if isinstance(meaning, Fact):
        return meaning.subject.repository(meaning.told)
    for metric, labels in meaning.series():
        if "repository" in metric.label_names:
            return labels[metric.label_names.index("repository")]
    return None
