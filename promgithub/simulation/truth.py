"""The expected values of `/metrics`, calculated from the simulated events, independently of the processor's code."""

from collections.abc import Iterable, Mapping

Sample = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and labels."""

Figures = Mapping[Sample, float]

EXPECTED_QUEUE_BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
EXPECTED_DURATION_BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600)
GAUGES = ("queued", "waiting", "in_progress")

FORK_WORKFLOW = "contribution"
"""The workflow of all runs from the branch `main` of a fork, and of no other run."""


def sample_of(name: str, labels: Mapping[str, str]) -> Sample:
    """Return the sample to compare a value with.

    The payload of a job does not show that it comes from a fork. Jobs of `FORK_WORKFLOW` are therefore compared as sums
    over `branch`.
    """
    if name.startswith("promgithub_job_") and labels.get("workflow_name") == FORK_WORKFLOW:
        labels = {label: value for label, value in labels.items() if label != "branch"}
    return name, frozenset(labels.items())


class Truth:
    """The expected values.

    `at_once` has the values as soon as all deliveries are counted. `settled` also includes the increments that are
    counted only after GRACE without a delivery about their job. No value in `settled` is lower than in `at_once`.
    """

    def __init__(self) -> None:
        self.at_once: dict[Sample, float] = {}
        self.settled: dict[Sample, float] = {}

    def add(self, name: str, labels: Mapping[str, str], by: float = 1, *, after_grace: bool = False) -> None:
        """Add to a counter or gauge; with `after_grace` only in `settled`."""
        sample = sample_of(name, labels)
        for figures in (self.settled,) if after_grace else (self.at_once, self.settled):
            figures[sample] = round(figures.get(sample, 0) + by, 6)  # millionths of a dollar are the smallest amounts

    def observe(
        self, name: str, labels: Mapping[str, str], seconds: float, buckets: Iterable[int], *, after_grace: bool = False
    ) -> None:
        """Add an observation to a histogram; with `after_grace` only in `settled`."""
        self.add(f"{name}_sum", labels, seconds, after_grace=after_grace)
        self.add(f"{name}_count", labels, after_grace=after_grace)
        for bound in buckets:
            fits = float(seconds <= bound)
            self.add(f"{name}_bucket", {**labels, "le": f"{bound}.0"}, fits, after_grace=after_grace)
        self.add(f"{name}_bucket", {**labels, "le": "+Inf"}, after_grace=after_grace)

    def gauge(self, subject: str, names: Mapping[str, str], state: str) -> None:
        """Add 1 to the gauge of `state`, the last state of a run or job, and 0 to its other gauges."""
        for gauge in GAUGES:
            self.add(f"promgithub_{subject}_{gauge}", names, float(gauge == state))
