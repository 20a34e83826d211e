"""What `/metrics` must say, reckoned from what happened and not from how deliveries are processed."""

from collections.abc import Iterable, Mapping

Sample = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and labels."""

Figures = Mapping[Sample, float]

QUEUE_BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
DURATION_BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600)
GAUGES = ("queued", "waiting", "in_progress")


class Truth:
    """The figures, added to as things happen."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.figures: dict[Sample, float] = {}

    def add(self, name: str, labels: Mapping[str, str], by: float = 1) -> None:
        """Add to a counter or gauge."""
        sample = (name, frozenset(labels.items()))
        self.figures[sample] = self.figures.get(sample, 0) + by

    def observe(self, name: str, labels: Mapping[str, str], seconds: float, buckets: Iterable[int]) -> None:
        """Add an observation to a histogram."""
        self.add(f"{name}_sum", labels, seconds)
        self.add(f"{name}_count", labels)
        for bound in buckets:
            self.add(f"{name}_bucket", {**labels, "le": f"{bound}.0"}, float(seconds <= bound))
        self.add(f"{name}_bucket", {**labels, "le": "+Inf"})

    def gauge(self, subject: str, names: Mapping[str, str], state: str) -> None:
        """Add a run or job whose last state is `state` to its gauge; the others exist and do not grow."""
        for gauge in GAUGES:
            self.add(f"promgithub_{subject}_{gauge}", names, float(gauge == state))
