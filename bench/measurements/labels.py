"""The cost of many runner classes and of the optional labels."""

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace

from bench.drained import drain, fastest
from bench.queues import rabbit_queue
from bench.result import Result, at_least_times
from bench.stage import Stage
from shared.delivery import Delivery

_DELIVERIES = 12_000
_ROUNDS = 3
_CLASSES = 20
_OPTIONAL = "job_name,event"

_RUN = re.compile(rb'"run_id":(\d+)')
_LABELS = re.compile(rb'"labels":\["[^\]]*\]')


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure how fast one processor drains with 20 runner classes and all optional labels, beside neither."""
    settings = {"LABELS": _OPTIONAL, "RUNNERS_FILE": _runners_file(stage)}
    async with rabbit_queue(stage) as queue:
        plain_rounds, labelled_rounds = [], []
        for _ in range(_ROUNDS):
            async with stage.database() as url:
                plain_rounds.append(await drain(queue, url, _DELIVERIES))
            async with stage.database() as url:
                deliveries = _with_classes(stage.editions.take(_DELIVERIES))
                labelled_rounds.append(await drain(queue, url, _DELIVERIES, settings=settings, deliveries=deliveries))
    plain, labelled = fastest(plain_rounds), fastest(labelled_rounds)
    yield Result(
        f"drain with {_CLASSES} runner classes and LABELS={_OPTIONAL}",
        labelled.rate,
        "/s",
        "deliveries counted per second by one processor, from RabbitMQ into PostgreSQL, with the rules of a "
        "RUNNERS_FILE; ceiling: the same without these settings and classes, in turns; the fastest of "
        f"{_ROUNDS} rounds",
        ceiling=plain.rate,
        target=at_least_times(0.9),
        details=labelled.details(),
    )


def _runners_file(stage: Stage) -> str:
    """Write rules for all classes; return the path of the file."""
    path = stage.new_directory() / "runners.toml"
    rule = '[[runner]]\nclass = "class-{0}"\nlabels = ["self-hosted", "pool-{0}"]\nusd_per_minute = 0.01\n'
    path.write_text("".join(rule.format(number) for number in range(_CLASSES)), "utf-8")
    return str(path)


def _with_classes(deliveries: Iterable[Delivery]) -> Iterator[Delivery]:
    """Yield the deliveries with other labels of the jobs, so that the jobs of each run are of one of the classes."""
    for delivery in deliveries:
        run = _RUN.search(delivery.body)
        if run and delivery.event == "workflow_job":
            labels = b'"labels":["self-hosted","pool-%d"]' % (int(run[1]) % _CLASSES)
            yield replace(delivery, body=_LABELS.sub(labels, delivery.body, count=1))
        else:
            yield delivery
