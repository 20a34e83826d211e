"""The real `promgithub` command as subprocesses of a test, on free ports of loopback, with their logs kept."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp

from tests.support.servers.daemon import Daemon
from tests.support.servers.ports import free_port

READY_SECONDS = 30.0
# One more than promgithub allows itself between SIGTERM and its end.
TERMINATE_SECONDS = 26.0
_POLL_SECONDS = 0.05
_LOG_LINES = 200

PROMGITHUB = str(Path(sys.executable).with_name("promgithub"))


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has, in bytes (Linux)."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


class Process:
    """One long-running command with a public and an admin listener; keeps its ports from one start to the next.

    `settings` are setting names without their prefix: `AMQP_URL="amqp://…"`. Nothing else is taken from the
    environment. `directory` is its working directory and holds `log`.
    """

    def __init__(self, command: Sequence[str], settings: Mapping[str, str], directory: Path, log: str) -> None:
        self.name = " ".join(Path(part).name if part == command[0] else part for part in command)
        service_port, admin_port = free_port(), free_port()
        self.service_url = f"http://127.0.0.1:{service_port}"
        self.admin_url = f"http://127.0.0.1:{admin_port}"
        listeners = {
            "SERVICE_HOST": "127.0.0.1",
            "SERVICE_PORT": str(service_port),
            "ADMIN_HOST": "127.0.0.1",
            "ADMIN_PORT": str(admin_port),
        }
        variables = {f"PROMGITHUB_{name}": value for name, value in (listeners | dict(settings)).items()}
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8"} | variables
        self._daemon = Daemon(command, environment, directory / log)

    @property
    def running(self) -> bool:
        """Whether the process exists; it may not be ready."""
        return self._daemon.running

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        return self._daemon.pid

    @property
    def resident(self) -> int:
        """Memory that the process has, in bytes (Linux)."""
        return resident_bytes(self.pid)

    @property
    def log(self) -> str:
        """The last lines of what it printed, over all its starts."""
        return self._daemon.log(_LOG_LINES)

    def start(self) -> None:
        """Start the process and return at once. Call this on the main thread only (see `Daemon`)."""
        self._daemon.start()

    async def is_ready(self) -> bool:
        """Whether `/readyz` answers 200 now."""
        async with aiohttp.ClientSession() as client:
            return await self._is_ready(client)

    async def ready(self, within: float = READY_SECONDS) -> None:
        """Wait until `/readyz` answers 200.

        Raises `AssertionError` with the log if the process ends, or is not ready `within` so many seconds.
        """
        try:
            async with asyncio.timeout(within), aiohttp.ClientSession() as client:
                while not await self._is_ready(client):
                    assert self.running, f"{self.name} ended before it was ready:\n{self.log}"
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{self.name} is not ready after {within} s:\n{self.log}") from None

    async def _is_ready(self, client: aiohttp.ClientSession) -> bool:
        try:
            async with client.get(f"{self.admin_url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientConnectionError:
            return False

    async def says(self, text: str, within: float = READY_SECONDS) -> None:
        """Wait until its log contains `text`. Raises `AssertionError` with the log after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                while text not in self.log:  # noqa: ASYNC110 - it comes from elsewhere
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{self.name} has not said {text!r} within {within} s:\n{self.log}") from None

    async def ended(self, within: float) -> int:
        """Wait until it has ended by itself; return its exit status. Raises `TimeoutError` after `within` seconds."""
        return await self._daemon.ended(within)

    async def terminate(self, within: float = TERMINATE_SECONDS) -> int:
        """Ask it to stop (SIGTERM); return its exit status. Raises `TimeoutError` after `within` seconds."""
        self._daemon.signal(signal.SIGTERM)
        return await self._daemon.ended(within)

    async def kill(self) -> None:
        """Kill it (SIGKILL) and wait until it has ended."""
        self._daemon.signal(signal.SIGKILL)
        await self._daemon.ended(TERMINATE_SECONDS)

    def close(self) -> None:
        """End it at once if it still runs."""
        self._daemon.close()


class Launcher:
    """Starts the processes of one test in one working directory, and ends them all afterwards."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.processes: list[Process] = []

    def start(self, *arguments: str, **settings: str) -> Process:
        """Start `promgithub` with these arguments and settings; return at once.

        `launcher.start("ingest", AMQP_URL=amqp_url, WEBHOOK_SECRET="s3cret")`
        """
        return self.start_command([PROMGITHUB, *arguments], **settings)

    def start_command(self, command: Sequence[str], **settings: str) -> Process:
        """Start another command that follows the same settings."""
        process = Process(command, settings, self._directory, log=f"process-{len(self.processes)}.log")
        self.processes.append(process)
        process.start()
        return process

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes:
            process.close()
