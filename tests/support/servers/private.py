"""The base class of private servers: started from installed binaries, killed and restarted by tests, cleaned up."""

import asyncio
import atexit
import shutil
import signal
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

from tests.support.servers.daemon import Daemon
from tests.support.servers.errors import ServerFailedError
from tests.support.servers.ports import free_port

START_SECONDS = 60.0
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.05
_LOG_LINES = 40
_ALL_LINES = 100_000


class PrivateServer(ABC):
    """A server on a free port of 127.0.0.1, with all its files in a temporary directory.

    It keeps its port and its data from one `start` to the next. `close` ends it and removes its files, at the latest
    when Python exits. `start` must be called on the main thread (see `Daemon`).
    """

    name: ClassVar[str]
    graceful: ClassVar[signal.Signals]

    def __init__(self, installed: str | Path) -> None:
        """`installed`: the program that it runs, or the folder of its programs."""
        self._installed = installed
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"promgithub-test-{self.name.lower()}-"))
        self._daemon = self._prepare()
        atexit.register(self.close)

    @property
    @abstractmethod
    def url(self) -> str:
        """Where to connect to, and as whom."""

    @property
    def description(self) -> str:
        """Where the server comes from, in one line."""
        return f"private instance from {self._installed}"

    @abstractmethod
    def _prepare(self) -> Daemon:
        """Write what the server needs into `directory` and return the process to start."""

    @abstractmethod
    async def _initialise(self) -> None:
        """Do what is left to do before the process is started, each time."""

    @abstractmethod
    async def _probe(self) -> None:
        """Connect once; raise `OSError` if the server does not answer."""

    @property
    def pid(self) -> int:
        """The process id of the server, for signals of the test's own."""
        return self._daemon.pid

    @property
    def log(self) -> str:
        """What the server has logged, in all its starts."""
        return self._daemon.log(_ALL_LINES)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def start(self) -> None:
        """Start the server unless it is running, and wait until it answers.

        Raises `ServerFailedError` if it ends, or does not answer within `START_SECONDS`.
        """
        if not self._daemon.running:
            await self._initialise()
            self._daemon.start()
        try:
            await until_answered(self._probe, self._check_running)
        except TimeoutError:
            raise self._failure(f"does not answer after {START_SECONDS:.0f} s") from None

    def _check_running(self) -> None:
        if not self._daemon.running:
            raise self._failure("ended while starting")

    def _failure(self, what: str) -> ServerFailedError:
        return ServerFailedError(f"{self.name} {what}. It logged:\n{self._daemon.log(_LOG_LINES)}")

    async def stop(self) -> None:
        """Ask the server to shut down and wait until it has ended. Raises `TimeoutError` after `STOP_SECONDS`."""
        self._daemon.signal(self.graceful)
        await self._daemon.ended(STOP_SECONDS)

    async def kill(self) -> None:
        """Kill the server (SIGKILL) and wait until no process of it is left."""
        self._daemon.signal(signal.SIGKILL)
        await self._daemon.ended(STOP_SECONDS)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the server do nothing at all for a while (SIGSTOP): its connections stay open and silent."""
        self._daemon.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._daemon.signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Stop the server and start it again on the same port and data."""
        await self.stop()
        await self.start()

    def close(self) -> None:
        """End the server at once and remove its files; may be called more than once."""
        self._daemon.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self.close)


async def until_answered(probe: Callable[[], Awaitable[None]], check: Callable[[], None]) -> None:
    """Call `probe` until it raises no `OSError`, and `check` before each call.

    Raises what `check` raises, and `TimeoutError` after `START_SECONDS`.
    """
    async with asyncio.timeout(START_SECONDS):
        while True:
            check()
            try:
                return await probe()
            except OSError:
                await asyncio.sleep(_POLL_SECONDS)


def folder_with(programs: Iterable[str], folders: Iterable[Path]) -> Path | None:
    """Return the first of the folders that holds all these programs."""
    wanted = tuple(programs)
    return next((folder for folder in folders if all(shutil.which(name, path=folder) for name in wanted)), None)
