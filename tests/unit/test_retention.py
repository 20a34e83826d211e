"""For how long the store keeps what."""

from datetime import timedelta

from processor.store.retention import CLOSED_KEPT, HOURLY_KEPT, rules
from processor.store.tables import SUBJECT_TABLES, metadata

DELIVERIES, SERIES = timedelta(days=8), timedelta(days=30)

SINCE = {"deliveries": "claimed_at", "hourly": "hour", "past": "began_at", "backfills": "began_at"}
"""The columns with the age of a row, where it is not that of the last delivery."""

KEPT_FOR_EVER = {"cursors", "leases", "locks"}
"""Tables with a row for each hook, kind of lease, or lock: they do not grow with the deliveries."""


def test_each_table_that_grows_has_exactly_one_period() -> None:
    periods = [(rule.since.table.name, rule.kept) for rule in rules(DELIVERIES, SERIES)]
    assert len(periods) == len(dict(periods))
    assert dict(periods) == {
        "deliveries": DELIVERIES,
        **{table.name: CLOSED_KEPT for table in SUBJECT_TABLES.values()},
        "counters": SERIES,
        "histograms": SERIES,
        "gauge_labels": SERIES,
        "hourly": HOURLY_KEPT,
        "past": CLOSED_KEPT,
        "backfills": CLOSED_KEPT,
    }
    assert set(metadata.tables) - set(dict(periods)) == KEPT_FOR_EVER


def test_what_is_open_is_never_deleted_and_its_age_is_that_of_its_last_news() -> None:
    for rule in rules(DELIVERIES, SERIES):
        has_end = "closed_at" in rule.since.table.c
        assert (rule.only is not None) == has_end
        assert rule.since.name == SINCE.get(rule.since.table.name, "touched_at")
