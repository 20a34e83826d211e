"""What is wrong with a hook, by GitHub's answers."""

import pytest

from processor.recovery.hook_checks import (
    HookConfig,
    ListedHook,
    failed_events,
    new_ping,
    problems,
    same_url,
    shown_url,
)
from processor.recovery.missing import Attempt

URL = "https://ci.example.com/webhook"
GOOD = ListedHook(HookConfig(URL, "json", "0", "********"), 1, ("push", "workflow_job"))


def attempt(number: int, guid: str, code: int, event: str = "push") -> Attempt:
    return Attempt(number, guid, event, status="OK" if code < 300 else "failed", status_code=code)


def test_nothing_is_wrong_with_a_hook_that_works() -> None:
    assert problems(GOOD, [attempt(1, "a", 202)], ["push"], URL) == []
    assert problems(GOOD, [], ["push"], None) == []


def test_a_hook_for_all_events_lacks_none() -> None:
    every = ListedHook(GOOD.config, 1, ("*",))
    assert problems(every, [], ["push", "workflow_run"], None) == []


def test_an_event_failed_if_all_its_attempts_did() -> None:
    recent = [attempt(4, "b", 502), attempt(3, "a", 202), attempt(2, "b", 503), attempt(1, "a", 503)]
    assert [one.id for one in failed_events(recent)] == [4]


def test_a_failed_ping_is_nothing_once_a_later_delivery_arrived() -> None:
    ping = attempt(1, "a", 401, "ping")
    assert failed_events([attempt(2, "b", 202), ping]) == []
    assert failed_events([ping, attempt(0, "b", 202)]) == [ping]


def test_a_401_says_that_the_secret_differs_only_if_it_is_the_newest_answer() -> None:
    (differs, _) = problems(GOOD, [attempt(2, "b", 401), attempt(1, "a", 202)], ["push"], None)
    assert differs.startswith("the secret differs")
    (failed,) = problems(GOOD, [attempt(2, "b", 202), attempt(1, "a", 401)], ["push"], None)
    assert failed.startswith("1 of the last 2 deliveries failed, the newest one: push, answered with 401 (failed)")


def test_the_answer_to_a_ping_is_one_that_was_not_listed_before() -> None:
    recent = [attempt(3, "c", 202), attempt(2, "b", 401, "ping"), attempt(1, "a", 200, "ping")]
    assert new_ping(recent, {1}) == recent[1]
    assert new_ping(recent, {1, 2}) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (URL, "HTTPS://CI.example.com/webhook/", True),
        (URL, "https://ci.example.com/webhook?a=b", False),
        (URL, "https://ci.example.com/Webhook", False),
        (URL, "http://ci.example.com/webhook", False),
    ],
)
def test_urls_are_the_same_whatever_the_case_of_the_host(one: str, other: str, same: bool) -> None:
    assert same_url(one, other) == same


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    assert (
        shown_url("https://user:pass@ci.example.com:8443/webhook?token=abc#x") == "https://ci.example.com:8443/webhook"
    )
    assert shown_url("https://[") == ""
