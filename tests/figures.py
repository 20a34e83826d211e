"""Figures: what `/metrics` says, as a mapping that two sides of a comparison can be held to."""

from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

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


STORE_PREFIXES = (
    "promgithub_workflow_",
    "promgithub_job_",
    "promgithub_push_",
    "promgithub_commit_",
    "promgithub_pull_request_",
    "promgithub_stale_",
    "promgithub_anomaly_",
)


def of_ci(figures: Figures, *, ages: bool = False) -> Figures:
    """Return the figures about CI; ages move with the clock and are left out unless asked for."""
    return {
        (name, labels): value
        for (name, labels), value in figures.items()
        if name.startswith(STORE_PREFIXES) and not name.endswith("_created") and (ages or "_oldest_age_" not in name)
    }


def value(figures: Figures, name: str, **labels: str) -> float:
    """Return one sample's value; a KeyError names what there is instead."""
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
