"""RUNNERS_FILE, and the classes and prices that jobs get."""

import pytest

from processor.counting.runner_classes import RunnerClass, RunnerClasses, billable_minutes
from processor.counting.runners_file import RunnersFileError, parse_runners

RULES = """
[[runner]]
class = "gpu"
labels = ["self-hosted", "GPU*"]
usd_per_minute = 0.10

[[runner]]
class = "large"
labels = ["ubuntu-latest-8-cores"]
usd_per_minute = 0.022001

[[runner]]
class = "own"
labels = ["self-hosted"]
usd_per_minute = 0
"""


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["self-hosted", "linux", "gpu-a100"], RunnerClass("gpu", 100_000)),
        (["Self-Hosted", "gpu"], RunnerClass("gpu", 100_000)),
        (["gpu-a100"], RunnerClass("gpu-a100")),
        (["self-hosted", "linux"], RunnerClass("own", 0)),
        (["ubuntu-latest-8-cores"], RunnerClass("large", 22_001)),
        (["ubuntu-latest"], RunnerClass("ubuntu-latest", 6_000, free_in_public=True)),
    ],
)
def test_the_first_rule_with_all_labels_decides_and_github_comes_last(labels: list[str], expected: RunnerClass) -> None:
    assert parse_runners(RULES).of(tuple(labels)) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([], RunnerClass("unknown")),
        (["self-hosted"], RunnerClass("self-hosted")),
        (["self-hosted", "X64", "linux"], RunnerClass("linux,x64")),
        (["arc-runner-set"], RunnerClass("arc-runner-set")),
        (["ubuntu-28.04"], RunnerClass("ubuntu-28.04", 6_000, free_in_public=True)),
        (["Windows-2025"], RunnerClass("windows-2025", 10_000, free_in_public=True)),
        (["macos-26"], RunnerClass("macos-26", 62_000, free_in_public=True)),
        (["macos-15-xlarge"], RunnerClass("macos-15-xlarge", 102_000)),
        (["ubuntu-24.04-arm"], RunnerClass("ubuntu-24.04-arm", 5_000, free_in_public=True)),
        (["ubuntu-latest-4-cores"], RunnerClass("ubuntu-latest-4-cores")),
        (["self-hosted", "ubuntu-22.04"], RunnerClass("ubuntu-22.04")),
    ],
)
def test_without_rules_github_s_labels_have_prices_and_all_others_none(
    labels: list[str], expected: RunnerClass
) -> None:
    assert RunnerClasses().of(tuple(labels)) == expected


@pytest.mark.parametrize(
    ("milliseconds", "minutes"), [(0, 1), (1, 1), (60_000, 1), (60_001, 2), (119_999, 2), (600_000, 10)]
)
def test_each_job_is_billed_in_whole_minutes(milliseconds: int, minutes: int) -> None:
    assert billable_minutes(milliseconds) == minutes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not TOML: Expected '=' after a key in a key/value pair (at end of document)"),
        ('[[runner]]\nclass = ""\nlabels = ["a"]', "line 2: class: got '', takes a name that is not empty"),
        ('[[runner]]\nclass = "a"', "line 1: labels: not set, takes a list of at least one label"),
        ('[[runner]]\nclass = "a"\nlabels = "a"', "line 3: labels: got 'a', takes a list of at least one label"),
        ('[[runner]]\nclas = "a"', "line 2: clas: no such field; did you mean class?, takes class, labels"),
        ('[[runer]]\nclass = "a"', "line 1: runer: no such table, takes [[runner]]"),
        ('[runner]\nclass = "a"', "line 1: runner: got {'class': 'a'}, takes tables [[runner]]"),
        (
            '[[runner]]\nclass = "a"\nlabels = ["a"]\n\n[[runner]]\nclass = "b"\nlabels = ["b"]\nusd_per_minute = -1',
            "line 8: usd_per_minute: got -1, takes a number of US dollars from 0 to 1000 with at most 6 decimals",
        ),
        ('[[runner]]\nclass = "a"\nlabels = ["a"]\nusd_per_minute = 0.0000001', "line 4: usd_per_minute: got 1E-7"),
        ('[[runner]]\nclass = "a"\nlabels = ["a"]\nusd_per_minute = nan', "line 4: usd_per_minute: got NaN"),
        ('[[runner]]\nclass = "a"\nlabels = ["a"]\nusd_per_minute = "1"', "line 4: usd_per_minute: got '1'"),
        ('[[runner]]\nclass = "a"\nlabels = ["a"]\nusd_per_minute = true', "line 4: usd_per_minute: got True"),
    ],
)
def test_a_wrong_file_names_line_field_and_what_it_takes(text: str, message: str) -> None:
    with pytest.raises(RunnersFileError) as raised:
        parse_runners(text)
    assert str(raised.value).startswith(message)
