"""The files of backfills: what their series have in the end."""

import re
from pathlib import Path

from tests.support import figures
from tests.support.figures import Figures

TARGET = r'\{instance="[^"]*",job="promgithub-backfill",'
"""The labels of a target, at the beginning of a sample's labels."""


def last_values(file: Path) -> Figures:
    """Return the last value of each series in a file, without the labels of a target."""
    lines = file.read_text("utf-8").splitlines()
    assert lines[-1] == "# EOF"
    last = dict(line.rsplit(" ", 2)[:2] for line in lines if not line.startswith("#"))
    text = "\n".join(f"{re.sub(TARGET, '{', series)} {value}" for series, value in last.items())
    return counters(figures.of_ci(figures.of_text(f"{text}\n")))


def summed(*several: Figures) -> Figures:
    """Return the sums of figures, rounded to millionths."""
    sums: dict[figures.Sample, float] = {}
    for one in several:
        for sample, value in one.items():
            sums[sample] = round(sums.get(sample, 0) + value, 6)
    return sums


def counters(truth: Figures) -> Figures:
    """Return the figures of counters and histograms that are not 0."""
    ends = ("_total", "_sum", "_count", "_bucket")
    return {sample: value for sample, value in truth.items() if sample[0].endswith(ends) and value}
