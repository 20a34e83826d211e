"""Many refusals cause few log lines, and no line contains text from the request."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from ingest.journal import INTERVAL_SECONDS, Journal
from ingest.outcomes import Refusal, RequestOutcome
from shared import logs

GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
UNSIGNED = Refusal(401, RequestOutcome.BAD_SIGNATURE, "not signed")
FULL = Refusal(503, RequestOutcome.QUEUE_FULL, "full")


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
            journal.refused(UNSIGNED, {}, "192.0.2.1")
        lines.now += INTERVAL_SECONDS
    assert lines.read("level", "outcome", "suppressed") == [
        ("warning", "bad_signature", 0),
        ("warning", "bad_signature", 999),
        ("warning", "bad_signature", 999),
    ]


def test_each_outcome_has_its_own_lines(lines: Lines) -> None:
    journal = lines.journal("info")
    for _ in range(5):
        journal.refused(UNSIGNED, {}, "192.0.2.1")
        journal.refused(FULL, {}, "192.0.2.1")
    assert lines.read("status", "reason") == [(401, "not signed"), (503, "full")]


def test_at_level_debug_every_delivery_has_its_line(lines: Lines) -> None:
    journal = lines.journal("debug")
    for _ in range(5):
        journal.refused(UNSIGNED, {"X-GitHub-Delivery": GUID}, "192.0.2.1")
    journal.taken(GUID, "push", RequestOutcome.ACCEPTED)
    assert lines.read("event", "delivery_id") == [("refused", GUID)] * 5 + [("accepted", GUID)]


def test_an_accepted_delivery_has_no_line_at_level_info(lines: Lines) -> None:
    lines.journal("info").taken(GUID, "push", RequestOutcome.ACCEPTED)
    assert lines.read() == []


@pytest.mark.parametrize("sent", ["", "x", "\udcff", f"{GUID} and more", '"}\n{'])
def test_a_delivery_id_that_is_no_guid_is_not_logged(lines: Lines, sent: str) -> None:
    lines.journal("info").refused(UNSIGNED, {"X-GitHub-Delivery": sent}, "192.0.2.1")
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


def test_a_refusal_says_where_it_came_from_and_what_the_sender_claims(lines: Lines) -> None:
    headers = {"X-GitHub-Hook-ID": "292430182", "X-Forwarded-For": "10.0.0.1, 203.0.113.9"}
    lines.journal("info").refused(UNSIGNED, headers, "192.0.2.1")
    assert lines.read("address", "forwarded_for", "claimed_hook_id") == [("192.0.2.1", "203.0.113.9", "292430182")]


@pytest.mark.parametrize("sent", ["", "x", "1; 2", "1" * 20, "\u0661", "::1%password", '"}\n{'])
def test_a_claim_that_is_no_number_and_no_address_is_not_logged(lines: Lines, sent: str) -> None:
    lines.journal("info").refused(UNSIGNED, {"X-GitHub-Hook-ID": sent, "X-Forwarded-For": sent}, "192.0.2.1")
    assert lines.read("claimed_hook_id") == [(None,)]
    assert "password" not in lines.stream.getvalue()


def test_a_ping_is_logged_with_its_hook_and_a_flood_of_pings_once_an_interval(lines: Lines) -> None:
    journal = lines.journal("info")
    for _ in range(3):
        journal.pinged({"X-GitHub-Delivery": GUID, "X-GitHub-Hook-ID": "7"}, "192.0.2.1")
    assert lines.read("level", "event", "delivery_id", "claimed_hook_id") == [("info", "ping", GUID, "7")]
