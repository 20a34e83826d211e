"""An in-memory store for tests of counting: states, flags and series."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from processor.counting.all_subjects import SUBJECTS
from processor.counting.ci_metrics import CiMetric, Tally
from processor.counting.events import Policy, interpret
from processor.counting.fold import fold, news_of, settle
from processor.counting.jobs import JOBS
from processor.counting.label_values import BranchPolicy
from processor.counting.past import PastIncrement, Span, count_past
from processor.counting.runner_classes import RunnerClasses
from processor.counting.runs import RUNS
from processor.counting.subjects import Fact, Row, Rows, Subject
from promgithub.simulation.truth import Sample, sample_of
from shared.delivery import Delivery
from tests.support.figures import SUMS

HOME = "github.com"


POLICY = Policy(BranchPolicy(r"<default>|main|master|release/.*"), HOME, RunnerClasses())


class Memory:
    """Counts deliveries as a worker does. `tally` is what all series say; increments below one are an error."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.tally = Tally()
        self.past: Counter[PastIncrement] = Counter()
        self._policy = policy
        self._claimed: set[str] = set()
        self._rows: dict[str, dict[tuple[Any, ...], tuple[str | None, int]]] = {s.name: {} for s in SUBJECTS}

    def count(self, batch: Iterable[Delivery]) -> Tally:
        """Count a batch; return what the series grew by."""
        meanings: list[Fact | Tally | None] = []
        for delivery in batch:
            if delivery.id not in self._claimed:
                meanings.append(interpret(delivery, self._policy))
                self._claimed.add(delivery.id)
        news = news_of(meaning for meaning in meanings if isinstance(meaning, Fact))
        rows = self._load({name: set(told) for name, told in news.items()}, news)
        grown = fold(rows, news)
        for meaning in meanings:
            if isinstance(meaning, Tally):
                grown.add(meaning)
        return self._keep(rows, grown)

    def backfill(self, facts: Sequence[Fact], span: Span) -> None:
        """Count finished work as a backfill does; `past` has what it counted."""
        news = news_of(facts)
        rows = self._load({name: set(told) for name, told in news.items()}, news)
        counted = count_past(rows, facts, span)
        assert all(by >= 0 for by in counted.values())
        self._keep(rows, Tally())
        self.past.update(counted)

    def settle(self) -> Tally:
        """Count all that waits; return what the series grew by."""
        total = Tally()
        for subject in SUBJECTS:
            keys = [key for key, row in self.rows(subject).items() if subject.unsettled(row)]
            rows = self._load({subject.name: set(keys)}, {})
            total.add(self._keep(rows, settle(subject, keys, rows)))
        return total

    def unsettled(self) -> list[str]:
        """Return the kinds of all that waits, sorted."""
        return sorted(
            kind
            for subject in SUBJECTS
            for row in self.rows(subject).values()
            for bit, kind in subject.pending_kinds.items()
            if subject.unsettled(row) & bit
        )

    def rows(self, subject: Subject[Any, Any]) -> dict[tuple[Any, ...], Row[Any]]:
        """Return the rows of a subject."""
        return {key: self._row(subject, key) for key in self._rows[subject.name]}

    def known(self, subject: Subject[Any, Any]) -> dict[tuple[Any, ...], Any]:
        """Return what is known of a subject, by key."""
        return {key: row.known for key, row in self.rows(subject).items()}

    def _load(self, keys: dict[str, set[tuple[Any, ...]]], news: Any) -> Rows:
        rows = Rows()
        for subject in SUBJECTS:
            own = rows.of(subject)
            own.update({key: self._row(subject, key) for key in keys.get(subject.name, ())})
            for other, key in subject.touches(news.get(subject.name, {}), own):
                keys.setdefault(other.name, set()).add(key)
        runs = JOBS.runs(news.get(JOBS.name, {}), rows.of(JOBS))
        forks = {(host, run_id) for (host, run_id, _), run in self.known(RUNS).items() if run and run.fork}
        rows.forks = runs & forks
        return rows

    def _row(self, subject: Subject[Any, Any], key: tuple[Any, ...]) -> Row[Any]:
        state, flags = self._rows[subject.name].get(key, (None, 0))
        known = None if state is None else msgspec.json.decode(state, type=subject.known)
        return Row(known, flags, loaded=known)

    def _keep(self, rows: Rows, grown: Tally) -> Tally:
        assert all(by > 0 for by in (*grown.counts.values(), *grown.observations.values()))
        for subject in SUBJECTS:
            for key, row in rows.of(subject).items():
                state = None if row.known is None else msgspec.json.encode(row.known).decode()
                self._rows[subject.name][key] = state, row.flags
        self.tally.add(grown)
        return grown


def named(tally: Tally) -> dict[Sample, int | tuple[int, ...]]:
    """Return counters by name and labels, and histograms as the sorted milliseconds of each observation.

    The branch of a fork's jobs is summed away, as in the simulator's truth.
    """
    found: dict[Sample, Any] = {}
    for (metric, labels), value in tally.counts.items():
        sample = _sample(metric, labels)
        found[sample] = found.get(sample, 0) + value
    for ((metric, labels), milliseconds), times in tally.observations.items():
        sample = _sample(metric, labels)
        found[sample] = tuple(sorted((*found.get(sample, ()), *[milliseconds] * times)))
    return found


def _sample(metric: CiMetric[Any], labels: Iterable[str]) -> Sample:
    return sample_of(metric.name, dict(zip(metric.label_names, labels, strict=True)))


def totals(tally: Tally) -> dict[str, int]:
    """Return how much each metric counts over all labels, without sums of times and costs."""
    sums: dict[str, int] = {}
    for (metric, _), value in tally.counts.items():
        if metric.name.startswith(SUMS):
            continue
        sums[metric.name] = sums.get(metric.name, 0) + value
    for ((metric, _), _), times in tally.observations.items():
        sums[metric.name] = sums.get(metric.name, 0) + times
    return sums
