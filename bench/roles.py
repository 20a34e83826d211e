"""Processes for benchmarks that are only parts of promgithub's own: `python -m bench.roles ROLE PATH`.

`spool-receiver` and `spool-processor` are the halves of `promgithub standalone`, each alone with the spool in PATH.
`watched-processor` is `promgithub processor`, which also writes to PATH how long its event loop stalls.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from ingest.receiver import Receiver
from processor.app import Processor
from processor.counting.events import COUNTED
from promgithub.commands.running import run
from shared import logs
from shared.brokers.choice import shared_broker, standalone_spool
from shared.settings import IngestSettings, ProcessorSettings, load

_PAUSE = 0.005
_WORTH_NOTING = 0.001
_Main = Callable[[asyncio.Event], Awaitable[None]]


def _spool_receiver(directory: Path) -> _Main:
    settings = load(IngestSettings)
    return Receiver(settings, standalone_spool(settings, directory), counted=COUNTED).run


def _spool_processor(directory: Path) -> _Main:
    settings = load(ProcessorSettings)
    return lambda stop: Processor(settings, standalone_spool(settings, directory)).run(stop)


def _watched_processor(stalls: Path) -> _Main:
    settings = load(ProcessorSettings)

    async def main(stop: asyncio.Event) -> None:
        watching = asyncio.create_task(_watch(stalls))
        try:
            await Processor(settings, shared_broker(settings, "processor")).run(stop)
        finally:
            watching.cancel()

    return main


async def _watch(stalls: Path) -> None:
    """Write a line for each stall of the event loop: its end in Unix seconds, and its length in seconds."""
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
