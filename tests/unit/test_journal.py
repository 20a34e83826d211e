"""A flood of refusals is a trickle of lines, and none of them repeats what a sender chose."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from ingest.answers import Outcome, Refusal
from ingest.journal import INTERVAL_SECONDS, Journal
from shared import logs

GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
UNSIGNED = Refusal(401, Outcome.BAD_SIGNATURE, "not signed")
FULL = Refusal(503, Outcome.QUEUE_FULL, "full")


class Lines:
    """What is logged, at a time that a test sets."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.now = 1000.0

    def journal(self, level: str) -> Journal:
        """Return a journal that writes lines from this level on."""
        logs.configure(level, "json", self.stream)
        return Journal(lambda: self.now)

    def read(self, *keys: str) -> list[tuple[object, ...]]:
        """Return these details of every line."""
        return [tuple(json.loads(line).get(key) for key in keys) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Lines()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_flood_is_one_line_an_interval_that_counts_the_rest(lines: Lines) -> None:
    journal = lines.journal("info")
    for _ in range(3):
        for _ in range(1000):
            journal.refused(UNSIGNED, {})
        lines.now += INTERVAL_SECONDS
    assert lines.read("level", "outcome", "left_out") == [
        ("warning", "bad_signature", 0),
        ("warning", "bad_signature", 999),
        ("warning", "bad_signature", 999),
    ]


def test_each_outcome_has_its_own_lines(lines: Lines) -> None:
    journal = lines.journal("info")
    for _ in range(5):
        journal.refused(UNSIGNED, {})
        journal.refused(FULL, {})
    assert lines.read("status", "reason") == [(401, "not signed"), (503, "full")]


def test_at_level_debug_every_delivery_has_its_line(lines: Lines) -> None:
    journal = lines.journal("debug")
    for _ in range(5):
        journal.refused(UNSIGNED, {"X-GitHub-Delivery": GUID})
    journal.taken(GUID, "push", Outcome.ACCEPTED)
    assert lines.read("event", "delivery_id") == [("refused", GUID)] * 5 + [("accepted", GUID)]


def test_an_accepted_delivery_has_no_line_at_level_info(lines: Lines) -> None:
    lines.journal("info").taken(GUID, "push", Outcome.ACCEPTED)
    assert lines.read() == []


@pytest.mark.parametrize("sent", ["", "x", "\udcff", f"{GUID} and more", '"}\n{'])
def test_a_delivery_id_that_is_none_is_not_repeated(lines: Lines, sent: str) -> None:
    lines.journal("info").refused(UNSIGNED, {"X-GitHub-Delivery": sent})
    assert lines.read("event", "delivery_id") == [("refused", None)]


def test_a_fault_of_ours_is_logged_with_its_trace_and_delivery(lines: Lines) -> None:
    journal = lines.journal("info")
    try:
        int("what happened")
    except ValueError:
        journal.failed({"X-GitHub-Delivery": GUID})
    ((level, delivery_id, trace),) = lines.read("level", "delivery_id", "exception")
    assert (level, delivery_id) == ("error", GUID)
    assert "what happened" in str(trace)
