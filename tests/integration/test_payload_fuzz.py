"""Broken payloads among good ones: each is counted or becomes a dead letter, and all good ones are counted."""

import asyncio
import copy
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from promgithub.simulation.histories import Historian
from shared.delivery import Delivery
from tests.support import builders, figures, strategies
from tests.support.builders import Payload
from tests.support.figures import Figures
from tests.support.worker import Worker, worker

REASONS = {"undecodable", "no_repository", "no_status"}
"""Why a payload can become a dead letter; any other reason would be a fault of the worker's."""

EXAMPLES = 60
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # making a failure of so many payloads smaller takes minutes

GOOD = Historian(61).history(30)

MATTERS = {"id", "run_id", "run_attempt", "status", "conclusion", "repository", "full_name", "runner_id", "commits"}
MATTERS |= {"created_at", "updated_at", "run_started_at", "started_at", "completed_at", "labels", "merged", "base"}
"""Names of members that decide what becomes of a delivery, and that are broken more often for that."""

BRANCHES = "<default>|main|release/.*"

_DEEP = 100_000
_LONG = 200_000

TIMES = (
    *(b"0", b"-1", b"1.5", b"1e18", b"-1e18", b"1e308", b"253402300799", b"253402300800", b"-62135596801"),
    *(b'"0001-01-01T00:00:00Z"', b'"9999-12-31T23:59:59Z"', b'"9999-12-31T23:59:59-23:59"', b'"2026-02-30T25:61:61Z"'),
    *(b'"1970-01-01"', b'"0001-01-01T00:00:00+23:59"', b'"1e308"', b'"\\u0000"'),
)
"""Times that GitHub does not send."""

ODD_VALUES = (
    *TIMES,
    *(b"null", b"true", b"false", b"[]", b"{}", b"[[]]", b'{"a":{}}', b'""', b'" "', b'"NaN"', b'"__overflow__"'),
    *(b"-0", b"1e3", b"2147483648", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809"),
    *(b'"queued"', b'"in_progress"', b'"completed"', b'"action_required"', b'"a\\nb\\"c\\\\{}"'),
    *(b'"\xe2\x80\xae\xef\xbf\xbf"', b'"' + b"x" * _LONG + b'"'),
)
"""JSON, each of which some member somewhere should not have."""

NOT_JSON = (
    *(b"1e999", b"1" * 5000, b"NaN", b"-Infinity", b"01", b"", b'"', b'"\\x"', b'"\0"', b'"\xff"', b'"\xed\xa0\x80"'),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b"[" * _DEEP, b"[" * _DEEP + b"]" * _DEEP),
    b'{"a":' * _DEEP + b"0" + b"}" * _DEEP,
)
"""What no decoder has to take: not JSON at all, or beyond what is text or number, or nested too deeply."""

VALUES = ODD_VALUES + NOT_JSON

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())

Path = tuple[str, ...]


def paths(payload: Payload, above: Path = ()) -> Iterator[Path]:
    """Yield the way to every member of an object, at any depth."""
    for key, value in payload.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, (*above, key))


@dataclass(frozen=True)
class Break:
    """One thing that is wrong with a payload: a member is replaced by anything, doubled or removed."""

    path: Path
    how: str
    value: bytes | int
    """The JSON of the other value, or its place in `VALUES`: some are too long to be shown."""

    @property
    def other(self) -> bytes:
        """The JSON of the other value."""
        return VALUES[self.value] if isinstance(self.value, int) else self.value


@dataclass(frozen=True)
class Broken:
    """A payload, what is wrong with it, the event that it is said to be, and where among the good ones it comes."""

    payload: Payload
    breaks: Sequence[Break]
    kept: float
    """The part of the text that is kept, from its beginning."""

    event: str
    place: int

    @property
    def body(self) -> bytes:
        """The text of the payload."""
        payload = copy.deepcopy(self.payload)
        raw = [applied for fault in self.breaks if (applied := _apply(payload, fault)) is not None]
        body = json.dumps(payload).encode()
        for fault, text in raw:
            body = body.replace(json.dumps(_mark(fault)).encode(), text)
        return body[: int(len(body) * self.kept)]


def _apply(payload: Payload, fault: Break) -> tuple[Break, bytes] | None:
    """Put a mark where something is wrong; return with what to replace it in the text."""
    parent: Any = payload
    for key in fault.path[:-1]:
        parent = parent[key] if isinstance(parent, dict) and key in parent else None
    if not isinstance(parent, dict) or fault.path[-1] not in parent:  # broken already
        return None
    was = parent.pop(fault.path[-1])
    if fault.how == "remove":
        return None
    parent[fault.path[-1]] = _mark(fault)
    again = json.dumps(was).encode() + b"," + json.dumps(fault.path[-1]).encode() + b":"
    return fault, (again if fault.how == "double" else b"") + fault.other


def _mark(fault: Break) -> str:
    return "<" + "/".join(fault.path) + ">"


def values_for(name: str) -> st.SearchStrategy[bytes | int]:
    """Return what to put in the place of a member: the JSON or its place in `VALUES`."""
    likely = TIMES if name.endswith("_at") else ODD_VALUES
    at = [st.integers(0, len(known) - 1) for known in (likely, likely, ODD_VALUES, VALUES)]
    return st.one_of(*at, JSON_VALUES)


@st.composite
def broken(draw: st.DrawFn) -> Broken:
    """Draw a payload of which a few members are broken, and which may be cut short or belong to another event."""
    payload = json.loads(json.dumps(draw(strategies.payloads())).replace("acme/", "strange/"))
    everything = list(paths(payload))
    members = st.sampled_from(everything) | st.sampled_from([path for path in everything if path[-1] in MATTERS])
    hows = st.sampled_from(["replace", "double", "remove"])
    breaks = st.lists(
        members.flatmap(lambda path: st.builds(Break, st.just(path), hows, values_for(path[-1]))),
        min_size=1,
        max_size=2,
        unique_by=lambda one: one.path,
    )
    events = [builders.event_of(payload)] * 9 + ["workflow_run", "workflow_job", "push", "pull_request"]
    return Broken(
        payload,
        draw(breaks),
        draw(st.sampled_from([1.0] * 19 + [0.9])),
        draw(st.sampled_from(events)),
        draw(st.integers(0, len(GOOD.deliveries))),
    )


def without(payload: Payload, *path: str) -> Broken:
    return Broken(payload, [Break(path, "remove", b"null")], 1.0, builders.event_of(payload), 0)


def among_the_good(faulty: Sequence[Broken]) -> list[Delivery]:
    order = list(GOOD.deliveries)
    for one in faulty:
        order.insert(one.place, Delivery(str(uuid.uuid4()), one.event, one.body, time.time_ns() // 1_000_000))
    return order


class Subject:
    """A worker used from code that is not async."""

    def __init__(self, runner: asyncio.Runner, counting: Worker) -> None:
        self._runner = runner
        self._counting = counting

    def count(self, deliveries: list[Delivery]) -> list[tuple[Delivery, str]]:
        """Empty the database and count one batch; return the dead letters."""
        return self._runner.run(self._count(deliveries))

    def page(self) -> Figures:
        """Return the figures on a page, as they are read back from its text."""
        return figures.of_text(self._runner.run(self._counting.page()))

    def total(self, metric: str) -> float:
        """Return a total over the labels of one of the worker's own metrics."""
        return figures.total(figures.of_families(self._counting.metrics.registry.collect()), metric)

    async def _count(self, deliveries: list[Delivery]) -> list[tuple[Delivery, str]]:
        await self._counting.clear()
        return (await self._counting.count(deliveries)).dead


@pytest.fixture
def subject(request: pytest.FixtureRequest, store_url: str) -> Iterator[Subject]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        counting = runner.run(stack.enter_async_context(worker(store_url, branches=BRANCHES)))
        yield Subject(runner, counting)
        runner.run(stack.aclose())


def is_good(labels: frozenset[tuple[str, str]]) -> bool:
    return dict(labels).get("repository", "").startswith("acme/")


def test_a_broken_payload_is_counted_or_a_dead_letter_and_disturbs_no_other(subject: Subject) -> None:
    became: Counter[str] = Counter()
    good = {delivery.id for delivery in GOOD.deliveries}

    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow], phases=PHASES)
    @example([without(builders.run(), "workflow_run", "status"), without(builders.push(), "repository")])
    @given(st.lists(broken(), min_size=6, max_size=25))
    def check(faulty: list[Broken]) -> None:
        deliveries = among_the_good(faulty)
        before = subject.total("promgithub_event_processed_total")
        dead = subject.count(deliveries)
        processed = subject.total("promgithub_event_processed_total") - before
        became.update(reason for _, reason in dead)
        became["counted"] += len(faulty) - len(dead)

        assert good.isdisjoint(delivery.id for delivery, _ in dead)
        assert {reason for _, reason in dead} <= REASONS
        assert processed == len(deliveries) - len(dead)
        counted = figures.of_ci(subject.page())
        expected = {sample: value for sample, value in GOOD.truth.at_once.items() if is_good(sample[1])}
        assert {sample: value for sample, value in counted.items() if is_good(sample[1])} == expected

    check()
    assert set(became) == REASONS | {"counted"}
