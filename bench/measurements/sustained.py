"""The whole pipeline under a steady load."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
from sqlalchemy import func, select

from bench.orders import LoadOutcome
from bench.pages import DEPTH, get_page, value
from bench.proc import cpu_seconds
from bench.queues import rabbit_queue
from bench.result import Result, at_most
from bench.stage import Stage
from processor.store.engine import create_engine
from processor.store.tables import deliveries
from tests.support.processes import Process

_CONNECTIONS = 64
_PROBED = 4000
_SHARE = 0.5
"""The steady rate, as a share of the receiver's maximum rate while the processor runs."""

_LOOK_SECONDS = 2.0
_SETTLE_SECONDS = 30.0
_AGE = "promgithub_event_oldest_age_seconds"


@dataclass(frozen=True, slots=True)
class _Look:
    """The backlog and the lag of the processor."""

    depth: float
    age: float


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure the whole pipeline under a steady load: whether the lag stays bounded and nothing is lost."""
    seconds = stage.scale.sustained_seconds
    async with rabbit_queue(stage) as queue, stage.database() as url:
        receiver, processor = queue.start_receiver(), queue.start_processor(url)
        await asyncio.gather(receiver.ready(), processor.ready())
        probe = await stage.load(receiver, _CONNECTIONS, _PROBED)
        rate = stage.scale.sustained_rate or round(probe.rate * _SHARE)
        await _counted(url, probe.accepted)
        looking = asyncio.create_task(_looks(stage, processor))
        used = _cpu(stage, receiver, processor)
        outcome = await stage.load(receiver, _CONNECTIONS, round(seconds * rate), rate)
        looking.cancel()
        looks = await asyncio.gather(looking)
        counted = await _counted(url, probe.accepted + outcome.accepted) - probe.accepted
        parts = {
            name: (after - used[name]) / outcome.accepted * 1e6
            for name, after in _cpu(stage, receiver, processor).items()
        }
        await asyncio.gather(receiver.terminate(), processor.terminate())
    for result in _results(outcome, looks[0], counted, f"{rate:g} deliveries/s for {seconds:g} s"):
        yield result
    yield Result(
        "whole path, CPU per delivery",
        sum(parts.values()),
        "µs",
        f"user and system time of receiver, RabbitMQ, processor and PostgreSQL for each delivery of {rate:g}/s",
        details={f"{name}_us": part for name, part in parts.items()},
    )


def _cpu(stage: Stage, receiver: Process, processor: Process) -> Mapping[str, float]:
    """Return the CPU seconds that each part has used so far."""
    rabbit, postgres = stage.servers_cpu()
    return {
        "receiver": cpu_seconds(receiver.pid),
        "rabbitmq": rabbit,
        "processor": cpu_seconds(processor.pid),
        "postgresql": postgres,
    }


def _results(outcome: LoadOutcome, looks: list[_Look], counted: int, load: str) -> list[Result]:
    third = max(1, len(looks) // 3)
    early, late = looks[:third], looks[-third:]
    return [
        Result(
            "sustained, oldest delivery at the end",
            max(look.age for look in late),
            "s",
            f"the most that promgithub_event_oldest_age_seconds was in the last third of {load} through receiver, "
            "RabbitMQ, processor and PostgreSQL; ceiling: the same in the first third",
            ceiling=max(look.age for look in early),
            target=at_most(2),
            details={"deepest_early": max(look.depth for look in early)} | outcome.latencies,
        ),
        Result(
            "sustained, queue depth at the end",
            max(look.depth for look in late),
            "deliveries",
            f"the most that promgithub_event_queue_depth was in the last third of {load}; what the processor holds is "
            "not in it; ceiling: the same in the first third",
            ceiling=max(look.depth for look in early),
            target=at_most(round(outcome.rate)),
        ),
        Result(
            "sustained, lost",
            outcome.accepted - counted,
            "deliveries",
            f"deliveries answered with 202 that are not counted {_SETTLE_SECONDS:g} s after {load}",
            target=at_most(0),
            details={"accepted": outcome.accepted, "refused": sum(outcome.answers.values()) - outcome.accepted},
        ),
    ]


async def _looks(stage: Stage, processor: Process) -> list[_Look]:
    """Scrape the processor at intervals until cancelled."""
    looks: list[_Look] = []
    began = time.monotonic()
    try:
        async with aiohttp.ClientSession() as client:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                page = await get_page(client, processor)
                look = _Look(value(page, DEPTH), value(page, _AGE))
                looks.append(look)
                stage.tell(
                    f"sustained for {time.monotonic() - began:.0f} s: depth {look.depth:.0f}, age {look.age:.2f} s"
                )
    except asyncio.CancelledError:
        return looks


async def _counted(database_url: str, accepted: int) -> int:
    """Return how many deliveries are counted, as soon as all are counted or after a timeout."""
    engine = create_engine(database_url, connections=1, application="bench")
    deadline = time.monotonic() + _SETTLE_SECONDS
    try:
        while True:
            async with engine.connect() as connection:
                counted = await connection.scalar(select(func.count()).select_from(deliveries)) or 0
            if counted >= accepted or time.monotonic() > deadline:
                return counted
            await asyncio.sleep(0.5)
    finally:
        await engine.dispose()
