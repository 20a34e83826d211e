"""Joins the facts of a batch with the stored states: computes the new states and the increments. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from processor.counting.all_subjects import SUBJECTS
from processor.counting.catalogue import STALE, StaleLabels
from processor.counting.ci_metrics import Tally
from processor.counting.flags import STALE_FLAGS
from processor.counting.states import StaleReason
from processor.counting.subjects import Fact, Rows, Subject

News: TypeAlias = Mapping[str, Mapping[tuple[Any, ...], Sequence[Any]]]
"""The facts of a batch, by the name of the subject and by key, in the order of arrival."""


def news_of(facts: Iterable[Fact]) -> News:
    """Group facts by subject and key."""
    news: dict[str, dict[tuple[Any, ...], list[Any]]] = {subject.name: defaultdict(list) for subject in SUBJECTS}
    for fact in facts:
        news[fact.subject.name][fact.key].append(fact.told)
    return news


def fold(rows: Rows, news: News) -> Tally:
    """Join `news` with the states in `rows`, which are changed in place; return the increments.

    `rows` has a row for each key in `news`, and for each key that `Subject.touches` returns.
    """
    tally = Tally()
    for subject in SUBJECTS:
        own = rows.of(subject)
        for key, told in news[subject.name].items():
            row = own[key]
            for one in told:
                row.known = one if row.known is None else subject.join(row.known, one)
            row.changed = True
    _relate(rows)
    for subject in SUBJECTS:
        own = rows.of(subject)
        for key, told in sorted(news[subject.name].items()):
            reports = len(tally.reports)
            subject.count(key, own[key], told, rows, tally)
            if len(tally.reports) > reports:
                tally.name_reports(reports, subject.about(key, own[key].known))
    return tally


def settle(subject: Subject[Any, Any], keys: Iterable[tuple[Any, ...]], rows: Rows) -> Tally:
    """Return the pending increments of the rows of these keys, and mark them as settled."""
    tally = Tally()
    own = rows.of(subject)
    _relate(rows)
    for key in keys:
        reports = len(tally.reports)
        subject.settle(key, own[key], rows, tally)
        tally.name_reports(reports, subject.about(key, own[key].known))
        own[key].changed = True
    return tally


def close(subject: Subject[Any, Any], reasons: Iterable[tuple[tuple[Any, ...], StaleReason]], rows: Rows) -> Tally:
    """Close the stale rows of these keys; return the increments: `promgithub_stale`, once per row and reason."""
    tally = Tally()
    own = rows.of(subject)
    _relate(rows)
    for key, reason in reasons:
        row = own[key]
        if row.known is not None:
            row.known = subject.close(row.known, reason)
        row.changed = True
        if row.first(STALE_FLAGS[reason]):
            reports = len(tally.reports)
            STALE.inc(tally, StaleLabels(subject.name, reason.value))
            tally.name_reports(reports, subject.about(key, row.known))
    return tally


def _relate(rows: Rows) -> None:
    for subject in SUBJECTS:
        for key, row in rows.of(subject).items():
            subject.relate(key, row, rows)
