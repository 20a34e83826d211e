"""What repeats is logged once, or within a limit, and what was left out is counted."""

from structlog.testing import capture_logs

from shared.log_limits import MAX_REASONS, FloodLimit, OutageLog
from shared.logs import get_logger


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_is_one_warning_and_its_end_says_how_long_it_was() -> None:
    clock = Clock()
    with capture_logs() as lines:
        outage = OutageLog(get_logger("test"), "away", "back", clock)
        outage.end()
        for _ in range(1000):
            outage.notice("refused")
        assert outage.reason == "refused"
        clock.now += 30
        outage.end()
        outage.end()
    shown = [(line["log_level"], line["event"]) for line in lines if line["log_level"] != "debug"]
    assert shown == [("warning", "away"), ("info", "back")]
    assert lines[-1]["after_seconds"] == 30
    assert outage.reason == ""


def test_further_reasons_of_an_outage_are_logged_once_each_and_not_without_end() -> None:
    with capture_logs() as lines:
        outage = OutageLog(get_logger("test"), "away", "back", Clock())
        for _ in range(2):
            for number in range(100):
                outage.notice(f"reason {number}")
    shown = [line["log_level"] for line in lines if line["log_level"] != "debug"]
    assert shown == ["warning", *["info"] * (MAX_REASONS - 1)]


def test_a_flood_is_limited_for_each_kind_and_the_rest_is_counted() -> None:
    clock = Clock()
    limit = FloodLimit(2, 60, clock)
    assert [limit.admit("a") for _ in range(5)] == [0, 0, None, None, None]
    assert limit.admit("b") == 0
    clock.now += 60
    assert [limit.admit("a") for _ in range(3)] == [3, 0, None]
