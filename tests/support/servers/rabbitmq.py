"""RabbitMQ for tests: a private instance, and what a test leaves behind in a shared one."""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from tests.support.servers.daemon import Daemon
from tests.support.servers.errors import MissingServerError, ServerFailedError
from tests.support.servers.ports import free_port
from tests.support.servers.private import PrivateServer, folder_with

# Debian's own scripts: those in its PATH insist on becoming the user rabbitmq.
_FOLDERS = (Path("/usr/lib/rabbitmq/bin"), *map(Path, os.get_exec_path()), Path("/opt/homebrew/sbin"))
_PROGRAMS = ("rabbitmq-server", "rabbitmqctl")
_PROBE_SECONDS = 5.0
_CTL_SECONDS = 30.0
_ALARM_SECONDS = 30.0
_POLL_SECONDS = 0.1

MAX_MESSAGE_SIZE = 32 * 1024 * 1024  # bytes; GitHub sends up to 25 MB, RabbitMQ 4 takes 16 MiB unless told otherwise

# RabbitMQ 3.10 writes the names of its quorum queues down twice a second: one that is killed sooner than that after
# the declaration of a queue comes back with the queue but without its content, for good.
QUEUE_SETTLED_SECONDS = 2.0

HOW_TO_INSTALL = """\
  Debian, Ubuntu   sudo apt-get install rabbitmq-server
  macOS            brew install rabbitmq"""

_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.console.level = info
log.file = false
max_message_size = {max_message_size}
raft.wal_max_size_bytes = 67108864
"""


class RabbitServer(PrivateServer):
    """A private RabbitMQ node with the user guest, without plugins.

    Let `QUEUE_SETTLED_SECONDS` pass between the declaration of a queue and `kill`.
    Raises `MissingServerError` when created where RabbitMQ or Erlang is not installed.
    """

    name = "RabbitMQ"
    graceful = signal.SIGTERM

    def __init__(self) -> None:
        self._programs = _installed()
        super().__init__(self._programs)

    @property
    def url(self) -> str:
        """Where to connect to, as guest."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def _prepare(self) -> Daemon:
        config = _CONFIG.format(port=self.port, max_message_size=MAX_MESSAGE_SIZE)
        (self.directory / "rabbitmq.conf").write_text(config)
        (self.directory / "enabled_plugins").write_text("[].")
        self._environment = self._write_environment()
        self._port_mapper = self._prepare_port_mapper()
        return Daemon([str(self._programs / "rabbitmq-server")], self._environment, self.directory / "server.log")

    def _write_environment(self) -> dict[str, str]:
        """Give the node, and the commands sent to it, a home (for the cookie), names and ports of their own."""
        loopback_only = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq"),
            "RABBITMQ_CTL_ERL_ARGS": loopback_only,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_NODENAME": "promgithub@localhost",
            # One scheduler starts faster and leaves the other cores to the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{loopback_only} +S 1:1",
            # Makes the script become the Erlang machine instead of its parent, so that a signal reaches that at once.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _prepare_port_mapper(self) -> Daemon:
        """Run Erlang's epmd as a child: left to itself, the node starts one that outlives it."""
        command = ["epmd", "-port", self._environment["ERL_EPMD_PORT"], "-address", "127.0.0.1"]
        return Daemon(command, self._environment, self.directory / "epmd.log")

    async def _initialise(self) -> None:
        if not self._port_mapper.running:
            self._port_mapper.start()

    async def _probe(self) -> None:
        await probe(self.url)

    async def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` against this node and return its output; raise `ServerFailedError` if it fails."""
        process = await asyncio.create_subprocess_exec(
            self._programs / "rabbitmqctl",
            "--quiet",
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(_CTL_SECONDS):
            output, _ = await process.communicate()
        if process.returncode != 0:
            raise ServerFailedError(f"rabbitmqctl {' '.join(arguments)}: {output.decode()}")
        return output.decode()

    def close(self) -> None:
        """End the node and its port mapper at once and remove their files; may be called more than once."""
        super().close()
        self._port_mapper.close()


def _installed() -> Path:
    folder = folder_with(_PROGRAMS, _FOLDERS)
    if folder is None or shutil.which("epmd") is None:
        raise MissingServerError(f"RabbitMQ is not installed:\n{HOW_TO_INSTALL}")
    return folder


async def probe(url: str) -> None:
    """Log in to a broker; raise `OSError` if it does not answer or refuses."""
    await _knock(url)
    connection = await aio_pika.connect(url, timeout=_PROBE_SECONDS)
    await connection.close()


async def _knock(url: str) -> None:
    """Open and close the broker's port: unlike this, aio-pika logs an error when nothing listens there."""
    address = urlsplit(url)
    async with asyncio.timeout(_PROBE_SECONDS):
        _, writer = await asyncio.open_connection(address.hostname, address.port or 5672)
    writer.close()
    await writer.wait_closed()


def memory_alarm(rabbit: RabbitServer) -> AbstractAsyncContextManager[None]:
    """Let a node be short of memory, so that it blocks publishers."""
    return _alarm(rabbit, "set_vm_memory_high_watermark", "0.0000001", "0.4")


def disk_alarm(rabbit: RabbitServer) -> AbstractAsyncContextManager[None]:
    """Let a node be short of disk, so that it blocks publishers."""
    return _alarm(rabbit, "set_disk_free_limit", "1000000GB", "50MB")


@asynccontextmanager
async def _alarm(rabbit: RabbitServer, limit: str, exceeded: str, usual: str) -> AsyncIterator[None]:
    await rabbit.ctl(limit, exceeded)
    try:
        async with asyncio.timeout(_ALARM_SECONDS):
            while (await rabbit.ctl("eval", "rabbit_alarm:get_alarms() =:= [].")).strip() == "true":  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(_POLL_SECONDS)
        yield
    finally:
        await rabbit.ctl(limit, usual)


async def take_all(url: str, queue_name: str) -> list[AbstractIncomingMessage]:
    """Take every message from a queue, which nobody else uses; return them in the order of arrival."""
    taken = []
    async with await aio_pika.connect(url, timeout=_PROBE_SECONDS) as connection:
        queue = await (await connection.channel()).get_queue(queue_name)
        while (message := await queue.get(no_ack=True, fail=False, timeout=_PROBE_SECONDS)) is not None:
            taken.append(message)
    return taken


async def remove_queue(url: str, name: str) -> None:
    """Delete the queue, its dead-letter queue `<name>.dead` and the exchange of the same name, where they exist."""
    async with await aio_pika.connect(url, timeout=_PROBE_SECONDS) as connection:
        channel = await connection.channel()
        await channel.queue_delete(name)
        await channel.queue_delete(f"{name}.dead")
        await channel.exchange_delete(name)


@asynccontextmanager
async def largest_message(rabbit: RabbitServer, size: int) -> AsyncIterator[None]:
    """Change what the broker takes, in bytes, on channels that are opened from now on."""
    await _take_messages_up_to(rabbit, size)
    try:
        yield
    finally:
        await _take_messages_up_to(rabbit, MAX_MESSAGE_SIZE)


async def _take_messages_up_to(rabbit: RabbitServer, size: int) -> None:
    # RabbitMQ 3 looks at the first of these, RabbitMQ 4 at the second.
    settings = f"application:set_env(rabbit, max_message_size, {size}), persistent_term:put(max_message_size, {size})."
    await rabbit.ctl("eval", settings)


@asynccontextmanager
async def node_settings(rabbit: RabbitServer, **values: int) -> AsyncIterator[None]:
    """Change settings of the application `rabbit`, for the channels and queues that are opened from now on."""
    usual = await _exchange(rabbit, values)
    try:
        yield
    finally:
        await _exchange(rabbit, usual)


async def _exchange(rabbit: RabbitServer, values: Mapping[str, int]) -> Mapping[str, int]:
    """Set settings of the application `rabbit`; return what they were."""
    pairs = ", ".join(f"{{{name}, {value}}}" for name, value in values.items())
    exchange = "{ok, Was} = application:get_env(rabbit, Name), application:set_env(rabbit, Name, Value), Was"
    before = await rabbit.ctl("eval", f"[begin {exchange} end || {{Name, Value}} <- [{pairs}]].")
    return dict(zip(values, map(int, re.findall(r"\d+", before)), strict=True))
