"""The lists of self-hosted runners in the setting GITHUB_RUNNERS, the requests for them, and their answers. Pure.

Endpoints, fields and permissions: https://docs.github.com/en/rest/actions/self-hosted-runners and
https://docs.github.com/en/rest/actions/self-hosted-runner-groups.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import msgspec

from processor.counting.ci_metrics import OVERFLOW
from processor.counting.label_values import UNKNOWN, clean
from processor.counting.runner_classes import RunnerClasses
from processor.recovery.requests import Request

REPOSITORY_GROUP = "Default"
"""The runner group of a repository's own runners: only organisations and enterprises have others (GitHub docs,
"Managing access to self-hosted runners using groups")."""

STATES = ("busy", "idle", "offline")
"""Values of the label `state`."""


class RunnerLabel(msgspec.Struct, frozen=True):
    """A label of a listed runner."""

    name: str


class ListedRunner(msgspec.Struct, frozen=True):
    """A runner in GitHub's answer. An offline runner may still be `busy`: it lost the connection during a job."""

    id: int
    status: str
    busy: bool
    labels: tuple[RunnerLabel, ...] = ()
    runner_group_id: int | None = None

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if self.status == "offline":
            return "offline"
        return "busy" if self.busy else "idle"


class RunnerGroup(msgspec.Struct, frozen=True):
    """A runner group in GitHub's answer."""

    id: int
    name: str


class RunnersPage(msgspec.Struct, frozen=True):
    """A page of the list of runners."""

    runners: tuple[ListedRunner, ...]


class GroupsPage(msgspec.Struct, frozen=True):
    """A page of the list of runner groups."""

    runner_groups: tuple[RunnerGroup, ...]


@dataclass(frozen=True, slots=True)
class RunnerList:
    """The runners of an organisation or repository: its name in the setting, and the requests about them.

    `groups` is None for a repository, which has no runner groups.
    """

    name: str
    runners: Request
    groups: Request | None


class RunnerKind(NamedTuple):
    """The labels of runners that are counted together."""

    runner_class: str
    runner_group: str


RunnerCounts: TypeAlias = Mapping[RunnerKind, Mapping[str, int]]
"""The number of runners of each kind in each of `STATES`."""


def parse_runner_lists(items: Iterable[str]) -> list[RunnerList]:
    """Parse the valid items of the setting, each once: names on GitHub do not depend on upper and lower case."""
    distinct: dict[str, str] = {}
    for item in items:
        distinct.setdefault(item.lower(), item)
    return [_parsed(item) for item in distinct.values()]


def _parsed(item: str) -> RunnerList:
    kind, _, scope = item.partition(":")
    if kind == "org":
        needs = "the organisation permission Self-hosted runners: read (classic: admin:org) of an owner"
        path = f"/orgs/{scope}/actions"
        groups = Request("runner_groups", f"{path}/runner-groups?per_page=100", scope, needs, again=True)
    else:
        needs = "the repository permission Administration: read (classic: repo) of an administrator"
        path, groups = f"/repos/{scope}/actions", None
    return RunnerList(item, Request("runners", f"{path}/runners?per_page=100", scope, needs, again=True), groups)


def count_by_kind(
    runners: Iterable[ListedRunner], groups: Iterable[RunnerGroup] | None, classes: RunnerClasses
) -> Counter[tuple[RunnerKind, str]]:
    """Count the runners of a list by kind and state. `groups` is None for the runners of a repository.

    The group of a runner is `unknown` if it is not one of `groups`.
    """
    names = None if groups is None else {group.id: clean(group.name) for group in groups}
    # Runners that come or go while the pages are read move between pages, so that one may be listed twice.
    distinct = {runner.id: runner for runner in runners}
    return Counter((_kind(runner, names, classes), runner.state) for runner in distinct.values())


def _kind(runner: ListedRunner, names: Mapping[int, str] | None, classes: RunnerClasses) -> RunnerKind:
    runner_class = classes.of(tuple(label.name for label in runner.labels))
    if names is None:
        return RunnerKind(runner_class.name, REPOSITORY_GROUP)
    group = names.get(runner.runner_group_id, "") if runner.runner_group_id is not None else ""
    return RunnerKind(runner_class.name, group or UNKNOWN)


def bounded(counts: Mapping[tuple[RunnerKind, str], int], max_series: int) -> RunnerCounts:
    """Return the counts in all `STATES` of each kind: the first kinds in at most `max_series` series keep theirs."""
    most = max_series // len(STATES)
    overflow = RunnerKind(OVERFLOW, OVERFLOW)
    kinds = sorted({kind for kind, _ in counts})
    shown = {kind: kind if place < most else overflow for place, kind in enumerate(kinds)}
    found = {kind: dict.fromkeys(STATES, 0) for kind in shown.values()}
    for (kind, state), count in counts.items():
        found[shown[kind]][state] += count
    return found
