"""Processes that promgithub has only as part of another: `python -m bench.roles ROLE PATH`.

`spool-receiver` and `spool-processor` are the halves of `promgithub standalone`, each alone with the spool in PATH.
`watched-processor` is `promgithub processor`, which also writes to PATH how long its event loop stalls.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from ingest.app import Receiver
from processor.app import Processor
from promgithub.broker import rabbit_broker
from promgithub.running import run
from shared import logs
from shared.settings import CommonSettings, IngestSettings, ProcessorSettings, load
from shared.spool import SpoolBroker

_PAUSE = 0.005
_WORTH_NOTING = 0.001
_Main = Callable[[asyncio.Event], Awaitable[None]]


def _spool(settings: CommonSettings, directory: Path) -> SpoolBroker:
    return SpoolBroker(directory, settings.event_queue_size, settings.delivery_limit)


def _spool_receiver(directory: Path) -> _Main:
    settings = load(IngestSettings)
    return Receiver(settings, _spool(settings, directory)).run


def _spool_processor(directory: Path) -> _Main:
    settings = load(ProcessorSettings)
    return lambda stop: Processor(settings, _spool(settings, directory)).run(stop)


def _watched_processor(stalls: Path) -> _Main:
    settings = load(ProcessorSettings)

    async def main(stop: asyncio.Event) -> None:
        watching = asyncio.create_task(_watch(stalls))
        try:
            await Processor(settings, rabbit_broker(settings, "processor")).run(stop)
        finally:
            watching.cancel()

    return main


async def _watch(stalls: Path) -> None:
    """Write a line for each pause that took too long: when it ended, in Unix seconds, and by how many seconds."""
    with stalls.open("w", buffering=1) as file:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_PAUSE)
            late = time.perf_counter() - began - _PAUSE
            if late > _WORTH_NOTING:
                file.write(f"{time.time()} {late}\n")


_ROLES: Mapping[str, Callable[[Path], _Main]] = {
    "spool-receiver": _spool_receiver,
    "spool-processor": _spool_processor,
    "watched-processor": _watched_processor,
}

if __name__ == "__main__":
    logs.configure("info", None)
    run(_ROLES[sys.argv[1]](Path(sys.argv[2])))
