"""Runner classes: the kind of runner that a job asks for by its labels, and the price of a minute on it. Pure.

A queued job has no runner yet, so that only its labels say which runners are missing.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from processor.counting.label_values import UNKNOWN, clean

SELF_HOSTED = "self-hosted"
"""The label that GitHub gives to every self-hosted runner; also the class of jobs without any other label."""

PRICES_FROM = "2026-01-01"
"""Since when GitHub has the prices of `STANDARD_RUNNERS`."""

PRICES_PAGE = "https://docs.github.com/en/billing/reference/actions-runner-pricing"
"""The source of the prices."""

_CACHED = 8192


class RunnerClass(NamedTuple):
    """A runner class. `price` is in millionths of a US dollar per minute, or None if the class has no price.

    Minutes of a class with `free_in_public` cost nothing, and are not billable, in public repositories.
    """

    name: str
    price: int | None = None
    free_in_public: bool = False


class RunnerRule(NamedTuple):
    """A rule of RUNNERS_FILE: jobs with all of `labels` (`*` stands for any characters) are of this class."""

    runner_class: RunnerClass
    labels: tuple[str, ...]


class GitHubRunner(NamedTuple):
    """A standard label of GitHub-hosted runners, in which `#` stands for a digit, and its price (see `RunnerClass`)."""

    label: str
    price: int
    free_in_public: bool = True


STANDARD_RUNNERS = (
    GitHubRunner("ubuntu-slim", 2_000),
    GitHubRunner("ubuntu-latest", 6_000),
    GitHubRunner("ubuntu-##.##", 6_000),
    GitHubRunner("ubuntu-##.##-arm", 5_000),
    GitHubRunner("windows-latest", 10_000),
    GitHubRunner("windows-####", 10_000),
    GitHubRunner("windows-####-vs####", 10_000),
    GitHubRunner("windows-##-arm", 8_000),
    GitHubRunner("macos-latest", 62_000),
    GitHubRunner("macos-##", 62_000),
    GitHubRunner("macos-##-intel", 62_000),
    GitHubRunner("macos-latest-large", 77_000, free_in_public=False),
    GitHubRunner("macos-##-large", 77_000, free_in_public=False),
    GitHubRunner("macos-latest-xlarge", 102_000, free_in_public=False),
    GitHubRunner("macos-##-xlarge", 102_000, free_in_public=False),
)
"""GitHub's own labels and prices (`PRICES_PAGE`). Labels of other larger runners are chosen by their owners."""

_GITHUB_LABELS = [(re.compile(re.escape(one.label).replace(r"\#", "[0-9]")), one) for one in STANDARD_RUNNERS]


@dataclass(frozen=True, slots=True)
class RunnerClasses:
    """The runner classes in effect. `rules` come before GitHub's standard labels; the first match decides."""

    rules: tuple[RunnerRule, ...] = ()
    of: Callable[[tuple[str, ...]], RunnerClass] = field(init=False, repr=False, compare=False)
    """Return the class of a job with these labels."""
    _matchers: Sequence[tuple[RunnerClass, Sequence[re.Pattern[str]]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile each rule once, and classify the most recent sets of labels once."""
        compiled = [(rule.runner_class, [_wildcard(label) for label in rule.labels]) for rule in self.rules]
        object.__setattr__(self, "_matchers", compiled)
        object.__setattr__(self, "of", lru_cache(maxsize=_CACHED)(self._of))

    def ruled(self, labels: Iterable[str]) -> RunnerClass | None:
        """Return the class of the first rule whose labels are all among `labels`, or None."""
        lowered = {label.lower() for label in labels}
        for runner_class, patterns in self._matchers:
            if all(any(pattern.fullmatch(label) for label in lowered) for pattern in patterns):
                return runner_class
        return None

    def _of(self, labels: tuple[str, ...]) -> RunnerClass:
        if not labels:
            return RunnerClass(UNKNOWN)
        if (ruled := self.ruled(labels)) is not None:
            return ruled
        lowered = sorted({label.lower() for label in labels})
        # A self-hosted runner may have a label such as ubuntu-22.04, and GitHub does not charge for it.
        standard = None if SELF_HOSTED in lowered else _standard(lowered)
        return standard or RunnerClass(
            clean(",".join(label for label in lowered if label != SELF_HOSTED)) or SELF_HOSTED
        )


def billable_minutes(milliseconds: int) -> int:
    """Return the minutes that GitHub bills for a job: rounded up, at least 1 (`PRICES_PAGE`)."""
    return max(1, -(-milliseconds // 60_000))


def _standard(labels: Sequence[str]) -> RunnerClass | None:
    for pattern, runner in _GITHUB_LABELS:
        for label in labels:
            if pattern.fullmatch(label):
                return RunnerClass(label, runner.price, runner.free_in_public)
    return None


def _wildcard(label: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, label.lower().split("*"))), re.DOTALL)
