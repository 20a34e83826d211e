"""Figures: the samples of `/metrics` as a mapping, for comparisons."""

from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from processor.counting.catalogue import CATALOGUE, HELD, UNREADABLE, UNSETTLED
from promgithub.simulation.truth import sample_of

Sample = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and labels."""

Figures = Mapping[Sample, float]


def of_families(families: Iterable[Metric]) -> Figures:
    """Return every sample of metric families; the same sample twice is an error."""
    figures: dict[Sample, float] = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in figures, f"{key} appears twice"
            figures[key] = sample.value
    return figures


def of_text(text: str) -> Figures:
    """Return every sample of an exposition in Prometheus' text format."""
    return of_families(text_string_to_metric_families(text))


SUMS = tuple(f"promgithub_job_{amount}" for amount in ("busy_seconds", "billable_minutes", "cost_usd"))
"""Counters of amounts. Of contradictory reports, the first one decides how much they grow."""

STORE_PREFIXES = tuple(metric.name for metric in CATALOGUE if metric not in {UNSETTLED, HELD, UNREADABLE})
"""How the names of samples about CI begin."""


def of_ci(figures: Figures, *, ages: bool = False) -> Figures:
    """Return the figures about CI, as the simulator's truth has them.

    Ages move with the clock and are left out unless asked for.
    """
    sums: dict[Sample, float] = {}
    for (name, labels), value in figures.items():
        if name.startswith(STORE_PREFIXES) and not name.endswith("_created") and (ages or "_oldest_age_" not in name):
            sample = sample_of(name, dict(labels))
            sums[sample] = sums.get(sample, 0) + value
    return sums


def value(figures: Figures, name: str, **labels: str) -> float:
    """Return one sample's value. The KeyError for a missing sample lists the existing ones."""
    key = (name, frozenset(labels.items()))
    if key not in figures:
        near = [dict(found) for (other, found) in figures if other == name]
        raise KeyError(f"no {name} with {labels}; there are {near}")
    return figures[key]


def total(figures: Figures, name: str, **labels: str) -> float:
    """Return the sum over all samples of a name that have these labels."""
    wanted = labels.items()
    return sum(v for (other, found), v in figures.items() if other == name and wanted <= dict(found).items())


def plus(one: Figures, other: Figures) -> Figures:
    """Return the sums of both."""
    return {sample: one.get(sample, 0) + other.get(sample, 0) for sample in {*one, *other}}


SHOWN = 10
"""Maximum number of samples in the message about those that differ."""


def assert_equal(found: Figures, truth: Figures) -> None:
    """Check that samples are those of the truth; the message has the first that differ."""
    wrong = sorted({sample for sample, _ in found.items() ^ truth.items()}, key=str)
    if wrong:
        shown = [
            f"{name} {dict(labels)}: {found.get((name, labels))}, not {truth.get((name, labels))}"
            for name, labels in wrong[:SHOWN]
        ]
        raise AssertionError(f"{len(wrong)} samples differ from the truth, such as\n" + "\n".join(shown))


GROWING = ("_total", "_count", "_sum", "_bucket")
"""Suffixes of the names of samples that must not decrease."""


def assert_never_down(before: Figures, after: Figures) -> None:
    """Check that each sample that must not decrease still exists, with at least its value before."""
    for (name, labels), value in before.items():
        if name.endswith(GROWING):
            assert after.get((name, labels), -1) >= value, f"{name} {dict(labels)} went down from {value}"


def totals(figures: Figures) -> Mapping[str, float]:
    """Return, for each name of samples that count, the sum over all labels, without sums of times and costs."""
    sums: dict[str, float] = {}
    for (name, _), value in figures.items():
        if name.endswith(("_total", "_count")) and not name.startswith(SUMS):
            sums[name] = sums.get(name, 0) + value
    return sums
