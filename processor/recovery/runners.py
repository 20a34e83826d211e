"""The self-hosted runners that GitHub lists, and the gauge that shows them."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from processor.counting.runner_classes import RunnerClasses
from processor.recovery.client import GitHub, understood
from processor.recovery.exclusive import check_lease
from processor.recovery.requests import Request
from processor.recovery.runner_lists import (
    STATES,
    GroupsPage,
    RunnerCounts,
    RunnerGroup,
    RunnerKind,
    RunnerList,
    RunnersPage,
    bounded,
    count_by_kind,
)
from processor.store.lease import Lease
from shared.errors import GitHubUnavailable, NotOnGitHub

VALID = 300.0
"""How long an answer is shown, in seconds, since the first request for it: as long as Prometheus shows a last value."""

MOST_PAGES = 100
"""Maximum number of pages of a list: 10,000 runners, the most that GitHub allows in a runner group (GitHub docs, "Usage
limits for self-hosted runners")."""


class RunnerGauge:
    """The metric `promgithub_runners`. It shows the last complete answer only, and nothing once that is too old."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._counts: RunnerCounts = {}
        self._asked_at = float("-inf")

    async def update(self, ask: "AskRunners") -> None:
        """Ask for the runners and show the answer in place of the last one. Raises as `AskRunners.counts`."""
        asked_at = self._clock()
        self._counts = await ask.counts()
        self._asked_at = asked_at

    def families(self) -> list[GaugeMetricFamily]:
        """Return the metric, or nothing if there is no answer of the last `VALID` seconds."""
        return [runners_family(self._counts)] if self._clock() - self._asked_at <= VALID else []


class AskRunners:
    """Asks GitHub for the runners in some lists, while this process holds `lease`."""

    def __init__(
        self, github: GitHub, lists: Sequence[RunnerList], classes: RunnerClasses, lease: Lease, max_series: int
    ) -> None:
        """`max_series` limits the series of the metric."""
        self._github = github
        self._lists = lists
        self._classes = classes
        self._lease = lease
        self._max_series = max_series

    async def counts(self) -> RunnerCounts:
        """Return the number of runners in all lists.

        Raises `GitHubError` if one of the lists is not complete, and `BusyError` if the lease is lost.
        """
        counted: Counter[tuple[RunnerKind, str]] = Counter()
        for listed in self._lists:
            pages = self._pages(listed.runners)
            runners = [runner async for page in pages for runner in understood(page, RunnersPage).runners]
            groups = None if listed.groups is None else await self._groups(listed.groups)
            counted += count_by_kind(runners, groups, self._classes)
        return bounded(counted, self._max_series)

    async def _groups(self, request: Request) -> list[RunnerGroup]:
        """Return the groups of an organisation, or none if GitHub has no such list."""
        try:
            return [g async for page in self._pages(request) for g in understood(page, GroupsPage).runner_groups]
        except NotOnGitHub:
            return []

    async def _pages(self, request: Request) -> AsyncIterator[Any]:
        page = request
        for _ in range(MOST_PAGES):
            check_lease(self._lease)
            answer, more = await self._github.page(page)
            yield answer
            if more is None:
                return
            page = replace(request, path=more)
        raise GitHubUnavailable(f"{request.path}: the list has over {MOST_PAGES} pages, so it is not counted")


def runners_family(counts: RunnerCounts) -> GaugeMetricFamily:
    """Return the metric with these counts."""
    family = GaugeMetricFamily(
        "promgithub_runners",
        "Self-hosted runners in GITHUB_RUNNERS by state, as GitHub last listed them; absent after 5 minutes without an "
        "answer.",
        labels=["runner_class", "runner_group", "state"],
    )
    for kind, states in counts.items():
        for state in STATES:
            family.add_metric([*kind, state], states[state])
    return family
