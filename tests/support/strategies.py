"""Hypothesis strategies for sets of deliveries: coherent histories of CI, and arbitrary values of GitHub's types."""

from itertools import pairwise

from hypothesis import strategies as st

from shared.delivery import Delivery
from tests.support import builders
from tests.support.builders import Payload

RUN_IDS = st.integers(1, 3)
JOB_IDS = st.integers(1, 6)
SECONDS = st.integers(0, 100)
MOMENTS = st.integers(0, 3)
"""So few that jobs share executions."""
CONCLUSIONS = st.sampled_from(["success", "failure", "cancelled", "skipped", "action_required", "brand_new", None])
STATUSES = st.sampled_from(["queued", "waiting", "pending", "requested", "in_progress", "completed", "brand_new"])
REPOSITORIES = st.sampled_from(["acme/gears", "acme/cogs"]).map(builders.repository)
BRANCH_NAMES = st.sampled_from(["main", "feature/x", builders.MERGE_QUEUE_BRANCH, None])
HEADS = st.sampled_from([builders.REPOSITORY, builders.REPOSITORY, builders.FORK, None])
WORKFLOWS = st.sampled_from(["build", "deploy"])


def runs() -> st.SearchStrategy[Payload]:
    """Return run events whose fields agree with nothing."""
    return st.builds(
        builders.run,
        RUN_IDS,
        attempt=st.integers(0, 3),
        status=STATUSES,
        conclusion=CONCLUSIONS,
        began=SECONDS,
        updated=SECONDS,
        branch=BRANCH_NAMES,
        workflow=WORKFLOWS,
        repo=REPOSITORIES,
        head_repository=HEADS,
    )


def jobs() -> st.SearchStrategy[Payload]:
    """Return job events whose fields agree with nothing, except that a job belongs to one run."""
    return JOB_IDS.flatmap(
        lambda job_id: st.builds(
            builders.job,
            st.just(job_id),
            run_id=st.just(1 + job_id % 2),
            attempt=st.integers(1, 3),
            status=STATUSES,
            conclusion=CONCLUSIONS,
            created=SECONDS,
            started=MOMENTS,
            completed=MOMENTS,
            branch=BRANCH_NAMES,
            workflow=st.sampled_from(["build", "deploy", None]),
            name=st.sampled_from(["test", "lint"]),
            runner=st.sampled_from([None, 0, 5, job_id]),
            gate=st.one_of(st.none(), SECONDS),
            repo=REPOSITORIES,
            labels=st.sampled_from([["ubuntu-latest"], []]),
        )
    )


def payloads() -> st.SearchStrategy[Payload]:
    """Return any event that is counted."""
    refs = st.sampled_from(["refs/heads/main", f"refs/heads/{builders.MERGE_QUEUE_BRANCH}"])
    pushes = st.builds(builders.push, st.integers(0, 3), ref=refs, repo=REPOSITORIES)
    actions = st.sampled_from(["opened", "closed", "labeled"])
    pull_requests = st.builds(builders.pull_request, actions, merged=st.booleans(), repo=REPOSITORIES)
    return st.one_of(runs(), jobs(), jobs(), pushes, pull_requests)


@st.composite
def delivery_sets(draw: st.DrawFn, max_size: int = 14) -> list[Delivery]:
    """Draw a set of deliveries with different IDs, some of them not saying when they were emitted."""
    drawn = draw(st.lists(st.tuples(payloads(), SECONDS, st.booleans()), min_size=1, max_size=max_size))
    return [
        builders.delivery(payload, builders.guid(second, serial=i) if dated else f"00000000-0000-4000-8000-{i:012x}")
        for i, (payload, second, dated) in enumerate(drawn)
    ]


@st.composite
def arrivals(draw: st.DrawFn, deliveries: list[Delivery]) -> list[list[Delivery]]:
    """Draw one way in which deliveries may arrive: in any order, some more than once, in batches of any size."""
    repeated = draw(st.lists(st.sampled_from(deliveries), max_size=6))
    order = draw(st.permutations([*deliveries, *repeated]))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4)))
    bounds = [0, *cuts, len(order)]
    return [list(order[a:b]) for a, b in pairwise(bounds) if a < b]
