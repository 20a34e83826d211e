"""The environment of the measurements: servers (started when first used), processes, and the load generator."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.deliveries import Editions
from bench.orders import SECRET, LoadOutcome, Order
from bench.proc import tree_cpu_seconds
from bench.servers import DurablePostgres, FastRabbit
from ingest.webhook import PATH
from tests.support.processes import Launcher, Process
from tests.support.servers.postgres import fresh_database

_ROOT = str(Path(__file__).parents[1])
_STOP_SECONDS = 60.0
_LOAD_SECONDS = 120.0
_COMMAND_SECONDS = 300.0

_REFERENCE_RATE = 18_000
"""Answers per second of the bare handler on the machine for which the targets in seconds were set."""

_SPEED_CONNECTIONS = 32
_SPEED_WARM = 1000
_SPEED_DELIVERIES = 10_000


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes: rows of the large store; seconds and rate of the steady load (rate 0: half of the maximum)."""

    tracked_rows: int
    sustained_seconds: float
    sustained_rate: float


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in any directory."""
    return ["env", f"PYTHONPATH={_ROOT}", sys.executable, "-m", module, *arguments]


class Stage:
    """The resources of the measurements; `tell` shows the progress."""

    def __init__(self, directory: Path, scale: Scale, tell: Callable[[str], None]) -> None:
        """`directory` is for the files of processes; the caller deletes it."""
        self.directory = directory
        self.scale = scale
        self.tell = tell
        self.launcher = Launcher(directory)
        self.editions = Editions()
        self._exit = AsyncExitStack()
        self._rabbit: FastRabbit | None = None
        self._postgres: DurablePostgres | None = None
        self._load: asyncio.subprocess.Process | None = None
        self._speed: float | None = None

    async def __aenter__(self) -> "Stage":
        self._exit.callback(self.launcher.close)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._exit.aclose()

    async def rabbit(self) -> FastRabbit:
        """Return RabbitMQ, running."""
        if self._rabbit is None:
            self.tell("starting RabbitMQ")
            self._rabbit = await self._exit.enter_async_context(FastRabbit())
        return self._rabbit

    def servers_cpu(self) -> tuple[float, float]:
        """Return the CPU seconds that RabbitMQ and PostgreSQL have used so far, 0 where one is not running."""
        rabbit = tree_cpu_seconds(self._rabbit.pid) if self._rabbit else 0.0
        return rabbit, tree_cpu_seconds(self._postgres.pid) if self._postgres else 0.0

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """Yield the URL of an empty PostgreSQL database; drop it afterwards."""
        if self._postgres is None:
            self.tell("starting PostgreSQL")
            self._postgres = await self._exit.enter_async_context(DurablePostgres())
        async with fresh_database(self._postgres.url) as url:
            yield url

    def new_directory(self) -> Path:
        """Make an empty directory."""
        directory = self.directory / secrets.token_hex(6)
        directory.mkdir()
        return directory

    def start(self, *arguments: str, **settings: str) -> Process:
        """Start a command of promgithub; see `Launcher.start`."""
        return self.launcher.start(*arguments, **settings)

    def start_standalone(self) -> Process:
        """Start `promgithub standalone` in an empty directory."""
        return self.start("standalone", "--data-dir", str(self.new_directory()), WEBHOOK_SECRET=SECRET)

    def start_module(self, module: str, *arguments: str, **settings: str) -> Process:
        """Start a module of this package that follows the same settings."""
        return self.launcher.start_command(python(module, *arguments), WEBHOOK_SECRET=SECRET, **settings)

    async def load(self, process: Process, connections: int, deliveries: int, rate: float | None = None) -> LoadOutcome:
        """Send deliveries to a receiver with the load generator; return the result. See `Order`."""
        return await self.send(Order(process.service_url + PATH, connections, deliveries, rate))

    async def send(self, order: Order) -> LoadOutcome:
        """Carry out an order with the load generator."""
        if self._load is None:
            self._load = await asyncio.create_subprocess_exec(
                *python("bench.sender"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            self._exit.push_async_callback(_ended, self._load)
        async with asyncio.timeout(_LOAD_SECONDS + (order.deliveries / order.rate if order.rate else 0)):
            answer = await asked(self._load, msgspec.json.encode(order))
        return msgspec.json.decode(answer, type=LoadOutcome, strict=False)

    async def speed(self) -> float:
        """Return the speed of this machine: the share of the reference rate that a bare handler reaches, at most 1.

        Loads and times that are not compared with a ceiling depend on it.
        """
        if self._speed is None:
            self.tell("measuring the speed of this machine: bare handler")
            bare = self.start_module("bench.bare")
            await bare.ready()
            await self.load(bare, _SPEED_CONNECTIONS, _SPEED_WARM)
            outcome = await self.load(bare, _SPEED_CONNECTIONS, _SPEED_DELIVERIES)
            await bare.kill()
            self._speed = min(1.0, outcome.rate / _REFERENCE_RATE)
        return self._speed


async def asked(process: asyncio.subprocess.Process, line: bytes) -> bytes:
    """Send a line to a process; return its answer, also a line."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process has no pipes")
    process.stdin.write(line + b"\n")
    await process.stdin.drain()
    if not (answer := await process.stdout.readline()):
        raise ChildProcessError("the process ended without an answer")
    return answer


async def answer_of(command: Sequence[str], given: bytes = b"") -> bytes:
    """Run a command to its end with something on its standard input; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(_COMMAND_SECONDS):
        output, _ = await process.communicate(given)
    if process.returncode:
        raise ChildProcessError(f"{command} ended with {process.returncode}")
    return output


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    async with asyncio.timeout(_STOP_SECONDS):
        await process.wait()
